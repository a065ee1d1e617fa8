"""Questions about numbers and colours, and about the picture as a whole."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from compressor.default_model.data.captions.facts import Subject, compatible
from compressor.default_model.data.captions.photograph import (
    Photograph,
    listed,
    number_word,
)
from compressor.default_model.data.captions.wordings import ask
from compressor.default_model.data.captions.words import (
    ANIMALS,
    CLOTHING,
    agents,
    words,
)
from compressor.default_model.data.english import plural, with_article
from compressor.training.sample import QA

_FUR = ("black", "white", "brown", "gray")
_PAINTS = (
    "black", "white", "brown", "red", "blue", "green", "yellow", "orange", "pink", "purple"
)  # fmt: skip
# What is counted in vain, and how often beside the others.
_COUNTED_NONE = {
    "person": 4, "dog": 2, "cat": 1, "horse": 1, "child": 1, "man": 1, "woman": 1, "girl": 1,
    "boy": 1, "car": 1, "bicycle": 1, "bird": 1,
}  # fmt: skip
_SYNONYMS = {"child": "kids", "man": "guys"}
_CHOICES = (
    "dog", "cat", "horse", "bird", "cow", "man", "woman", "boy", "girl", "bicycle", "car", "boat",
    "surfboard", "skateboard", "snowboard", "motorcycle",
)  # fmt: skip
_SNOW = frozenset({"snow", "snowy", "snow-covered"})
_BRIEF_WORDS = 8
_NEW_WORDS = 4  # that a second sentence must say
# Most photographs are taken by day, outdoors, of one of each: these are asked about less often.
_DAY_SHARE = 0.3
_OUTDOOR_SHARE = 0.35
_ONE_SHARE = 0.45
_NONE_SHARE = 0.1
# Few photographs have no people: without these the number of people would be one whatever is seen.
_NOBODY_SHARE = 0.5


def describe(photo: Photograph, rng: random.Random) -> Iterator[QA]:
    """ "Describe the picture.", "What is happening here?" """
    captions = rng.sample(photo.captions, len(photo.captions))
    kinds = ("describe", "describe", "happening")
    for kind, caption in zip(kinds, captions, strict=False):
        yield ask(kind, rng, caption)


def describe_otherwise(photo: Photograph, rng: random.Random) -> Iterator[QA]:
    """In two sentences, briefly, as a title."""
    if not photo.captions:
        return
    if len(photo.captions) > 1:
        first, second = rng.sample(photo.captions, 2)
        new = set(second.lower().split()) - set(first.lower().split())
        if len(new) >= _NEW_WORDS:
            yield ask("describe_two", rng, f"{first} {second}")
    shortest = min(photo.captions, key=lambda text: len(text.split()))
    article, *rest = shortest.split()
    if len(rest) < _BRIEF_WORDS:
        yield ask("brief", rng, shortest)
        if article.lower() in {"a", "an", "the"} and len(rest) > 1:
            yield ask("title", rng, " ".join(rest))


def what_is_it(photo: Photograph, rng: random.Random) -> Iterator[QA]:
    """ "What is this?", "What things are in the picture?" """
    subject = photo.main_subject
    answer = photo.coloured(subject) if subject else None
    if answer is None:
        return
    with_place = photo.facts.place and rng.random() < 0.4
    yield ask(
        "what_is_it", rng, f"{answer} {photo.facts.place}" if with_place else answer
    )
    things = sorted(photo.nouns.present & words("things"))
    if things:
        shown = [answer, *map(with_article, rng.sample(things, min(2, len(things))))]
        yield ask("what_things", rng, listed(shown))


def count(photo: Photograph, rng: random.Random) -> Iterator[QA]:
    """ "How many dogs are there?" """
    for category, number in photo.facts.counts.items():
        if number == 1 and rng.random() > _ONE_SHARE:
            continue
        plain = plural(category)
        other = rng.choice((plain, _SYNONYMS.get(category, plain)))
        yield ask("count", rng, number_word(number), p=other)
        if number != 1:
            yield ask("count", rng, number_word(number), p=plain)
    for name, number in photo.facts.thing_counts.items():
        yield ask("count", rng, number_word(number), p=name)


def count_none(photo: Photograph, rng: random.Random) -> Iterator[QA]:
    """ "How many cats are there?" where there is none."""
    absent = photo.nouns.absent
    weights = {noun: often for noun, often in _COUNTED_NONE.items() if noun in absent}
    share = _NOBODY_SHARE if "person" in absent else _NONE_SHARE
    if weights and rng.random() < share:
        (noun,) = rng.choices(list(weights), list(weights.values()))
        yield ask("count_none", rng, "None", "count", p=plural(noun))


def _coloured(photo: Photograph) -> Iterator[tuple[str, dict[str, str]]]:
    """Things of one colour, and the gaps of a wording that speaks of them."""
    people = photo.facts.counts.get("person")
    for name in sorted(photo.facts.colours):
        is_plural = name in words("plural_things")
        gaps = {"be": "are", "do": "do"} if is_plural else {"be": "is", "do": "does"}
        owner = _owner(photo, name) if name in CLOTHING else None
        if owner is not None:
            yield name, gaps | {"s": f"the {owner.name}'s {name}"}
        # Among several people "the shirt" may be anybody's.
        if name not in CLOTHING or people in (None, 1) or owner is None:
            yield name, gaps | {"s": f"the {name}"}


def _owner(photo: Photograph, garment: str) -> Subject | None:
    for subject in photo.facts.subjects:
        worn = {text.split()[-1] for text in subject.worn}
        if not subject.is_plural and garment in worn:
            return subject
    return None


def colour(photo: Photograph, rng: random.Random) -> Iterator[QA]:
    """ "What colour is the dog?" """
    for name, gaps in _coloured(photo):
        yield ask("colour", rng, listed(photo.facts.colours[name]), **gaps)


def is_colour(photo: Photograph, rng: random.Random) -> Iterator[QA]:
    """ "Is the shirt red?" """
    for name, gaps in _coloured(photo):
        colours = photo.facts.colours[name]
        if rng.random() < 0.5:
            yield ask("is_colour", rng, "Yes", **gaps, c=listed(colours))
        else:
            other = _other_colour(name, colours, rng)
            yield ask("is_colour", rng, "No", **gaps, c=other)


def choice_colour(photo: Photograph, rng: random.Random) -> Iterator[QA]:
    """ "Is the shirt red or blue?" """
    for name, gaps in _coloured(photo):
        colours = photo.facts.colours[name]
        if len(colours) == 1 and rng.random() < 0.4:
            pair = [colours[0], _other_colour(name, colours, rng)]
            rng.shuffle(pair)
            yield ask("choice_colour", rng, colours[0], **gaps, c=pair[0], d=pair[1])


def _other_colour(name: str, colours: Sequence[str], rng: random.Random) -> str:
    """A colour that the thing does not have, but might."""
    for palette in (_FUR if name in ANIMALS else _PAINTS, _PAINTS):
        possible = []
        for other in palette:
            if not any(compatible((other,), (own,)) for own in colours):
                possible.append(other)
        if possible:
            return rng.choice(possible)
    return "purple"


def choice(photo: Photograph, rng: random.Random) -> Iterator[QA]:
    """ "Is it a dog or a cat?" """
    for noun in _CHOICES:
        if noun not in photo.nouns.present or photo.facts.counts.get(noun, 1) != 1:
            continue
        others = [
            other
            for other in _CHOICES
            if other in photo.nouns.absent and (other in agents()) == (noun in agents())
        ]
        if others:
            pair = [noun, rng.choice(others)]
            rng.shuffle(pair)
            a, b = map(with_article, pair)
            yield ask("choice", rng, with_article(noun), a=a, b=b)


def place(photo: Photograph, rng: random.Random) -> Iterator[QA]:
    """ "Where was this taken?" """
    if photo.facts.place:
        yield ask("where_taken", rng, photo.facts.place)


def in_or_out(photo: Photograph, rng: random.Random) -> Iterator[QA]:
    """ "Is this indoors or outdoors?" """
    outdoors = photo.facts.outdoors
    if outdoors is None or (outdoors and rng.random() > _OUTDOOR_SHARE):
        return
    asked = ask("inout", rng, "Outdoors" if outdoors else "Indoors")
    if "inside" in asked.question:
        answer = "Outside." if outdoors else "Inside."
        asked = QA(asked.question, answer, asked.kind)
    yield asked
    kind = rng.choice(("outdoors", "indoors"))
    yield ask(kind, rng, "Yes" if (kind == "outdoors") == outdoors else "No")


def season(photo: Photograph, rng: random.Random) -> Iterator[QA]:
    """ "What season is it?" in the snow."""
    votes = sum(bool(_SNOW & set(each.tokens)) for each in photo.facts.parses)
    if votes > 1:
        yield ask("season", rng, "Winter")


def sport(photo: Photograph, rng: random.Random) -> Iterator[QA]:
    """ "What sport is this?" """
    if photo.facts.sport:
        yield ask("sport", rng, photo.facts.sport)


def time(photo: Photograph, rng: random.Random) -> Iterator[QA]:
    """ "Is it day or night?" """
    said = photo.facts.time
    if said is None or (said == "day" and rng.random() > _DAY_SHARE):
        return
    yield ask("time", rng, said)
    if said != "evening":
        kind = rng.choice(("is_night", "is_day"))
        yield ask(kind, rng, "Yes" if kind == f"is_{said}" else "No")
