"""Questions about a photograph as people ask them, answered from its human captions.

Answers are short and true, the key word first, a full stop behind. Each kind has many wordings
(caption_wordings.json) and a share of a photograph's questions.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from compressor.default_model.data import caption_words as lexicon
from compressor.default_model.data.absent_nouns import (
    MASS,
    Cooccurrence,
    Nouns,
    nouns_of,
)
from compressor.default_model.data.caption_facts import (
    MANY,
    PLURAL_THINGS,
    SCENES,
    SEVERAL,
    Facts,
    Subject,
    compatible,
)
from compressor.default_model.data.caption_parser import Action
from compressor.default_model.data.caption_wordings import filled, wordings
from compressor.default_model.data.caption_words import ANIMALS, PEOPLE
from compressor.default_model.data.english import NUMBERS, plural, with_article
from compressor.default_model.data.questions import capitalised
from compressor.training.sample import QA

UNKNOWN = "I cannot tell from this picture."
UNREADABLE = "I cannot read text in this picture."
_UNKNOWN_SHARE = 0.05  # of the questions
_TEXT_SHARE = 0.025
_LIKELY_SHARE = 0.5  # of the nouns asked for in vain
_CARELESS_SHARE = (
    0.08  # of the questions lack the capital, and as many the question mark
)
_PRONOUNS = {"man": "he", "boy": "he", "woman": "she", "girl": "she"}
_GENERAL = frozenset({"person", "child"})  # said of whom another word would name better


@dataclass(frozen=True)
class Photograph:
    """A captioned photograph and what its captions say."""

    facts: Facts
    nouns: Nouns
    captions: tuple[str, ...]  # tidied


def photograph(facts: Facts) -> Photograph:
    """What questions are made from."""
    captions = tuple(each.caption for each in facts.parses if each.caption)
    return Photograph(facts, nouns_of(facts), captions)


def questions(
    photo: Photograph, statistics: Cooccurrence, rng: random.Random
) -> list[QA]:
    """About 20 independent questions about a photograph."""
    asked: list[QA] = []
    for make, most in _KINDS.values():
        candidates = list(make(photo, rng))
        asked += rng.sample(candidates, min(most, len(candidates)))
    asked += _existence(photo, statistics, rng)
    expected = len(asked)
    unknown = list(_unknown(photo, rng))
    asked += rng.sample(unknown, _drawn(_UNKNOWN_SHARE * expected, rng))
    for _ in range(_drawn(_TEXT_SHARE * expected, rng)):
        question, answer = rng.choice(_text_questions())
        asked.append(QA(question, answer, "text"))
    unique = {qa.question: qa for qa in asked}
    return [
        QA(careless(qa.question, rng), qa.answer, qa.kind) for qa in unique.values()
    ]


def _drawn(expected: float, rng: random.Random) -> int:
    """A whole number with this mean."""
    whole = int(expected)
    return whole + (rng.random() < expected - whole)


def careless(question: str, rng: random.Random) -> str:
    """As people type: sometimes without the capital, sometimes without the question mark."""
    if rng.random() < _CARELESS_SHARE:
        question = question.rstrip("?.")
    if rng.random() < _CARELESS_SHARE:
        question = question[:1].lower() + question[1:]
    return question


@cache
def _text_questions() -> list[tuple[str, str]]:
    path = Path(__file__).with_name("text_questions.tsv")
    pairs = []
    for line in path.read_text(encoding="utf-8").splitlines():
        question, answer = line.split("\t")
        pairs.append((question, answer))
    return pairs


def _qa(
    kind: str, rng: random.Random, answer: str, wording: str = "", **gaps: str
) -> QA:
    template = rng.choice(wordings()[wording or kind])
    return QA(filled(template, rng, **gaps), sentence(answer), kind)


def sentence(text: str) -> str:
    """An answer: a capital first, one full stop behind."""
    return f"{capitalised(' '.join(text.split()).rstrip('.'))}."


def _agreement(subject: Subject) -> dict[str, str]:
    many = subject.is_plural
    return {
        "s": f"the {subject.name}",
        "be": "are" if many else "is",
        "do": "do" if many else "does",
    }


# Describing


def _describe(photo: Photograph, rng: random.Random) -> Iterator[QA]:
    captions = list(photo.captions)
    rng.shuffle(captions)
    for kind, caption in zip(
        ("describe", "describe", "happening"), captions, strict=False
    ):
        yield _qa(kind, rng, caption)


def _describe_more(photo: Photograph, rng: random.Random) -> Iterator[QA]:
    captions = sorted(photo.captions, key=lambda text: len(text.split()))
    if not captions:
        return
    if len(captions) > 1:
        first, second = rng.sample(captions, 2)
        words = [set(text.lower().strip(".").split()) for text in (first, second)]
        if len(words[1] - words[0]) >= 4:
            yield _qa("describe_two", rng, f"{first} {second}")
    if len(captions[0].split()) <= 8:
        yield _qa("brief", rng, captions[0])
        words_of_title = captions[0].split()
        if words_of_title[0].lower() in {"a", "an", "the"} and len(words_of_title) > 2:
            yield _qa("title", rng, " ".join(words_of_title[1:]))


def _main_answer(photo: Photograph) -> str | None:
    """ "A brown dog", "Two children"."""
    subjects = photo.facts.subjects
    animals_or_named = [each for each in subjects if each.category not in _GENERAL]
    subject = max(
        animals_or_named or subjects,
        key=lambda each: (each.votes, len(each.actions)),
        default=None,
    )
    if subject is None:
        return None
    if subject.is_plural:
        return _numbered(photo, subject.category)
    colour = (
        photo.facts.colours.get(subject.category)
        if subject.category in ANIMALS
        else None
    )
    noun = f"{' and '.join(colour)} {subject.name}" if colour else subject.name
    return with_article(noun)


def _numbered(photo: Photograph, category: str) -> str | None:
    number = photo.facts.counts.get(category)
    if number is None or number == 1:
        return None
    words = {SEVERAL: "several", MANY: "many"}
    return f"{words.get(number) or NUMBERS[number]} {plural(category)}"


def _what_is_it(photo: Photograph, rng: random.Random) -> Iterator[QA]:
    answer = _main_answer(photo)
    if answer is None:
        return
    phrase = _scene_phrase(photo)
    with_place = f"{answer} {phrase}" if phrase and rng.random() < 0.4 else answer
    yield _qa("what_is_it", rng, with_place)


def _scene_phrase(photo: Photograph) -> str | None:
    scene = photo.facts.scene
    return scene.phrase if scene else None


def _who(photo: Photograph, rng: random.Random) -> Iterator[QA]:
    subjects = [each for each in photo.facts.subjects if each.category in PEOPLE]
    total = photo.facts.counts.get("person")
    if not subjects:
        return
    # "A man" says more than "a person".
    best = max(subjects, key=lambda each: (each.category not in _GENERAL, each.votes))
    if best.is_plural:
        answer = _numbered(photo, best.category)
        own = photo.facts.counts.get(best.category)
        if answer and own == total:
            yield _qa("who", rng, answer)
    elif total == 1:
        yield _qa("who", rng, with_article(best.name))
    elif total == 2 and len(singles := [e for e in subjects if not e.is_plural]) == 2:
        first, second = sorted(singles, key=lambda each: -each.votes)
        if "person" not in {first.category, second.category}:
            names = f"{with_article(first.name)} and {with_article(second.name)}"
            yield _qa("who", rng, names)


def _animals(photo: Photograph, rng: random.Random) -> Iterator[QA]:
    present = [each for each in photo.facts.subjects if each.category in ANIMALS]
    if len(present) != 1 or present[0].votes < 2:
        return
    animal = present[0]
    if animal.is_plural:
        answer = _numbered(photo, animal.category) or plural(animal.category)
        yield _qa("what_animals", rng, answer)
    else:
        yield _qa("what_animal", rng, with_article(animal.category))


# Who does what


def _doing(photo: Photograph, rng: random.Random) -> Iterator[QA]:
    for subject in photo.facts.subjects:
        action = _best_action(subject, rng)
        if action:
            yield _qa("doing", rng, action.text, **_agreement(subject))


def _doing_described(photo: Photograph, rng: random.Random) -> Iterator[QA]:
    for subject in photo.facts.described:
        if subject.actions:
            action = rng.choice(subject.actions)
            yield _qa("doing", rng, action.text, **_agreement(subject))


def _best_action(subject: Subject, rng: random.Random) -> Action | None:
    """One of the actions whose verb most captions have."""
    votes = Counter(action.verb for action in subject.actions)
    if not votes:
        return None
    most = max(votes.values())
    return rng.choice([each for each in subject.actions if votes[each.verb] == most])


def _who_does(photo: Photograph, rng: random.Random) -> Iterator[QA]:
    agents = {
        mention.category for each in photo.facts.parses for mention in each.mentions
    }
    for subject in photo.facts.subjects:
        action = _best_action(subject, rng)
        if action is None:
            continue
        # Another agent of the captions might do the same.
        others = [
            each for each in photo.facts.described
            if each.category != subject.category
            and action.verb in {other.verb for other in each.actions}
        ]  # fmt: skip
        if others or len(agents) > 2:
            continue
        answer = (
            _numbered(photo, subject.category) or f"the {subject.name}"
            if subject.is_plural
            else with_article(subject.name)
        )
        asked = rng.choice((action.gerund, action.text))
        if not action.object and lexicon.verbs()[action.gerund].needs_object:
            asked = action.text
        if len(asked.split()) <= 7:
            yield _qa("who_does", rng, answer, g=asked)


_CONTRARY = {
    "run": {"sit", "lie", "sleep", "swim", "kneel", "crouch", "read", "lean", "drive"},
    "sit": {"run", "jump", "swim", "leap", "walk", "dance", "stand", "surf", "ski", "skateboard"},
    "stand": {"run", "swim", "lie", "leap", "sit", "sleep", "dive"},
    "swim": {"run", "sit", "walk", "ride", "climb", "dance", "eat", "stand"},
    "sleep": {"run", "jump", "swim", "walk", "ride", "play", "stand", "climb", "dance", "eat",
              "leap", "chase", "smile", "talk"},
    "jump": {"sit", "lie", "sleep", "kneel", "read", "eat"},
    "walk": {"sit", "lie", "sleep", "swim", "leap", "climb"},
    "dance": {"sit", "swim", "ride", "climb", "ski", "surf", "lie"},
    "climb": {"sit", "swim", "lie", "dance", "run", "ride"},
    "eat": {"run", "swim", "jump", "climb", "ride", "leap", "dance", "surf", "ski"},
    "lie": {"run", "jump", "walk", "stand", "leap", "ride", "climb", "dance"},
    "read": {"run", "swim", "jump", "climb", "leap", "dance", "surf", "ski", "skateboard"},
    "fly": {"sit", "walk", "run", "lie", "sleep"},
    "cook": {"run", "jump", "swim", "climb", "ride", "surf", "ski"},
    "drive": {"run", "jump", "swim", "climb", "walk", "dance", "surf"},
}  # fmt: skip
_OF_PEOPLE = frozenset({"dance", "read", "cook", "drive", "climb"})


def _may_do(photo: Photograph, verb: str) -> bool:
    """Whether somebody in the photograph may be doing this."""
    if verb == "swim" and MASS["water"][0] & photo.facts.words:
        return True
    return verb in photo.facts.verbs


def _is_doing(photo: Photograph, rng: random.Random) -> Iterator[QA]:
    for subject in photo.facts.subjects:
        own = {action.verb for action in subject.actions}
        if rng.random() < 0.5:
            action = _best_action(subject, rng)
            if action and not lexicon.verbs()[action.gerund].needs_object:
                asked = action.text if rng.random() < 0.4 else action.gerund
                yield _qa("is_doing", rng, "Yes", **_agreement(subject), g=asked)
            continue
        contrary = []
        for verb, excluded in sorted(_CONTRARY.items()):
            is_fitting = verb not in _OF_PEOPLE or subject.category in PEOPLE
            if not _may_do(photo, verb) and own & excluded and is_fitting:
                contrary.append(verb)
        if contrary:
            asked = lexicon.gerund(rng.choice(contrary))
            yield _qa("is_doing", rng, "No", **_agreement(subject), g=asked)


def _choice_doing(photo: Photograph, rng: random.Random) -> Iterator[QA]:
    for subject in photo.facts.subjects:
        action = _best_action(subject, rng)
        if action is None or lexicon.verbs()[action.gerund].needs_object:
            continue
        contrary = [
            verb for verb, excluded in sorted(_CONTRARY.items())
            if not _may_do(photo, verb) and action.verb in excluded
            and (verb not in _OF_PEOPLE or subject.category in PEOPLE)
        ]  # fmt: skip
        if contrary:
            pair = [action.gerund, lexicon.gerund(rng.choice(contrary))]
            rng.shuffle(pair)
            gaps = {"g": pair[0], "h": pair[1]}
            yield _qa("choice_doing", rng, action.gerund, **_agreement(subject), **gaps)


# Numbers


def _count(photo: Photograph, rng: random.Random) -> Iterator[QA]:
    for category, number in photo.facts.counts.items():
        word = {SEVERAL: "Several", MANY: "Many"}.get(number) or NUMBERS[number]
        nouns = [plural(category)]
        if category == "child":
            nouns.append("kids")
        if category == "man":
            nouns.append("guys")
        # One is the answer to guess: more are asked for more often.
        if number == 1 and rng.random() < 0.55:
            continue
        yield _qa("count", rng, word, p=rng.choice(nouns))
        if number != 1:
            yield _qa("count", rng, word, p=nouns[0])
    for name, number in photo.facts.thing_counts.items():
        yield _qa("count", rng, NUMBERS[number], p=name)


def _count_none(photo: Photograph, rng: random.Random) -> Iterator[QA]:
    nouns = sorted(photo.nouns.absent & {"dog", "cat", "horse", "child", "man", "woman", "person",
                                         "car", "bicycle", "bird", "girl", "boy"})  # fmt: skip
    if nouns and rng.random() < 0.25:
        yield _qa("count_none", rng, "None", "count", p=plural(rng.choice(nouns)))


# Colours


def _colour_subjects(
    photo: Photograph,
) -> Iterator[tuple[str, dict[str, str], tuple[str, ...]]]:
    """Things of one colour: their noun, how to speak of them, and the colour."""
    people = photo.facts.counts.get("person")
    for name, colours in sorted(photo.facts.colours.items()):
        many = name in PLURAL_THINGS or (name.endswith("s") and name[:-1] in ANIMALS)
        gaps = {"be": "are" if many else "is", "do": "do" if many else "does"}
        owner = _owner(photo, name)
        if name in lexicon.CLOTHING:
            if owner is not None:
                yield name, gaps | {"s": f"the {owner.name}'s {name}"}, colours
            if people in (None, 1) or owner is None:
                yield name, gaps | {"s": f"the {name}"}, colours
        else:
            yield name, gaps | {"s": f"the {name}"}, colours


def _owner(photo: Photograph, thing: str) -> Subject | None:
    for subject in photo.facts.subjects:
        worn = {text.split()[-1] for text in subject.worn}
        if not subject.is_plural and thing in worn:
            return subject
    return None


def _colour(photo: Photograph, rng: random.Random) -> Iterator[QA]:
    for _, gaps, colours in _colour_subjects(photo):
        yield _qa("colour", rng, _listed(colours), **gaps)


def _listed(words: Sequence[str]) -> str:
    if len(words) < 3:
        return " and ".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"


_FUR = ("black", "white", "brown", "gray")
_PAINTS = (
    "black",
    "white",
    "brown",
    "red",
    "blue",
    "green",
    "yellow",
    "orange",
    "pink",
    "purple",
)


def _other_colour(name: str, colours: tuple[str, ...], rng: random.Random) -> str:
    """A colour that the thing does not have, but might."""
    for palette in (_FUR if name in ANIMALS else _PAINTS, _PAINTS):
        possible = [
            colour
            for colour in palette
            if not any(compatible((colour,), (own,)) for own in colours)
        ]
        if possible:
            return rng.choice(possible)
    return "purple"


def _is_colour(photo: Photograph, rng: random.Random) -> Iterator[QA]:
    for name, gaps, colours in _colour_subjects(photo):
        if rng.random() < 0.5:
            yield _qa("is_colour", rng, "Yes", **gaps, c=_listed(colours))
        else:
            yield _qa(
                "is_colour", rng, "No", **gaps, c=_other_colour(name, colours, rng)
            )


def _choice_colour(photo: Photograph, rng: random.Random) -> Iterator[QA]:
    for name, gaps, colours in _colour_subjects(photo):
        if len(colours) == 1 and rng.random() < 0.4:
            pair = [colours[0], _other_colour(name, colours, rng)]
            rng.shuffle(pair)
            yield _qa("choice_colour", rng, colours[0], **gaps, c=pair[0], d=pair[1])


# What somebody wears, holds, rides, …


def _wearing(photo: Photograph, rng: random.Random) -> Iterator[QA]:
    for subject in photo.facts.subjects:
        if subject.worn and not subject.is_plural and subject.category in PEOPLE:
            worn = list(dict.fromkeys(subject.worn))
            answer = max(worn, key=lambda text: (_votes(text, worn), len(text), text))
            yield _qa("wearing", rng, answer, **_agreement(subject))
        elif subject.worn and subject.category in PEOPLE:
            yield _qa("wearing", rng, rng.choice(subject.worn), **_agreement(subject))


def _votes(text: str, worn: Sequence[str]) -> int:
    return sum(text.split()[-1] == other.split()[-1] for other in worn)


def _holding(photo: Photograph, rng: random.Random) -> Iterator[QA]:
    for subject in (*photo.facts.subjects, *photo.facts.described):
        if subject.is_plural or not subject.held:
            continue
        held, hand = rng.choice(subject.held)
        gaps = _agreement(subject)
        if held.split()[0] in {"his", "her", "its", "their"} or len(held.split()) > 6:
            continue
        if subject.category in ANIMALS:
            if hand == "mouth":
                yield _qa("in_mouth", rng, held, s=gaps["s"], n=subject.name)
        else:
            carries = any(
                action.verb == "carry" and action.object == held
                for action in subject.actions
            )
            yield _qa("carrying" if carries else "holding", rng, held, **gaps)


_ASKED_OBJECTS = frozenset(
    {"ride", "chase", "catch", "throw", "kick", "hit", "pull", "push", "eat", "drink", "read",
     "watch", "paint", "climb", "play", "chew", "lick", "bite", "sniff", "fetch", "drive", "use",
     "blow", "touch", "pet", "feed", "hug", "kiss"}
)  # fmt: skip
_ASKED_PLACES = frozenset(
    {("jump", "over"), ("leap", "over"), ("look", "at"), ("stare", "at"), ("point", "at"),
     ("sit", "on"), ("stand", "on"), ("lean", "on"), ("lean", "against"), ("jump", "into"),
     ("jump", "on"), ("play", "with"), ("lie", "on"), ("climb", "on"), ("slide", "down"),
     ("walk", "on"), ("run", "through"), ("wait", "for"), ("listen", "to"), ("swing", "on")}
)  # fmt: skip


def _object_of(photo: Photograph, rng: random.Random) -> Iterator[QA]:
    for subject in (*photo.facts.subjects, *photo.facts.described):
        for action in subject.actions:
            gaps = _agreement(subject)
            if action.verb in _ASKED_OBJECTS and action.object:
                is_own = action.object.split()[0] in lexicon.POSSESSIVES
                is_person = any(
                    word in lexicon.agents() for word in action.object.split()
                )
                is_short = (
                    len(action.object.split()) <= 6 and action.object != "each other"
                )
                if is_short and not is_own and not is_person:
                    yield _qa("object_of", rng, action.object, **gaps, g=action.gerund)
            elif action.places and (action.verb, action.places[0][0]) in _ASKED_PLACES:
                preposition, phrase = action.places[0]
                asked = f"{action.gerund} {preposition}"
                is_own = phrase.split()[0] in lexicon.POSSESSIVES
                if not action.object and not is_own and len(phrase.split()) <= 6:
                    yield _qa("object_of", rng, phrase, **gaps, g=asked)


# Place and time


def _place(photo: Photograph, rng: random.Random) -> Iterator[QA]:
    phrase = _scene_phrase(photo)
    if phrase:
        yield _qa("where_taken", rng, phrase)


_WHERE_PREPOSITIONS = frozenset(
    {"in", "on", "at", "near", "under", "by", "inside", "beside"}
)
_WHERE_NOUNS = frozenset(
    ["couch", "sofa", "chair", "bench", "swing", "trampoline", "fountain", "boat", "canoe", "kayak", "raft", "stairs", "steps", "wall", "fence", "bridge", "table", "tree", "ground", "floor", "dirt", "mud", "puddle", "slide", "ramp", "rail", "railing", "car", "truck", "bus", "tent", "building", "house", "door", "window", "bike", "bicycle", "motorcycle", "horse", "sled", "dock", "pier", "log", "platform", "porch", "balcony", "area", "mat", "rug", "blanket", "towel", "cart", "tub", "chairlift", "roof", "ledge", "lot", "crosswalk", "corner", "market", "garden", "pavement", "concrete", "driveway", "playpen", "tunnel", "surfboard", "skateboard", "tube"]
).union(*(scene.words for scene in SCENES)) - {"rough", "surf", "snow-covered", "snowy", "grassy",
                                               "wooded", "grocery", "subway"}  # fmt: skip


def _where(photo: Photograph, rng: random.Random) -> Iterator[QA]:
    for subject in photo.facts.subjects:
        phrases = list(subject.places)
        for action in subject.actions:
            if action.verb in {
                "sit",
                "stand",
                "lie",
                "walk",
                "run",
                "play",
                "swim",
                "sleep",
            }:
                phrases += action.places[:1]
        fitting = []
        for preposition, phrase in phrases:
            last = phrase.split()[-1]
            if preposition in _WHERE_PREPOSITIONS and last in _WHERE_NOUNS:
                fitting.append(f"{preposition} {phrase}")
        if fitting:
            yield _qa("where", rng, rng.choice(fitting), **_agreement(subject))


def _inout(photo: Photograph, rng: random.Random) -> Iterator[QA]:
    outdoors = photo.facts.outdoors
    if outdoors is None:
        return
    words = ("Outdoors", "Outside") if outdoors else ("Indoors", "Inside")
    qa = _qa("inout", rng, words[0])
    yield QA(qa.question, f"{words['inside' in qa.question]}.", qa.kind)
    kind = rng.choice(("outdoors", "indoors"))
    yield _qa(kind, rng, "Yes" if (kind == "outdoors") == outdoors else "No")


def _season(photo: Photograph, rng: random.Random) -> Iterator[QA]:
    votes = sum(
        bool({"snow", "snowy", "snow-covered"} & set(each.tokens))
        for each in photo.facts.parses
    )
    if votes >= 2:
        yield _qa("season", rng, "Winter")


def _sport(photo: Photograph, rng: random.Random) -> Iterator[QA]:
    if photo.facts.sport:
        yield _qa("sport", rng, photo.facts.sport)


def _time(photo: Photograph, rng: random.Random) -> Iterator[QA]:
    time = photo.facts.time
    # Most photographs are taken by day, so night is asked for whenever it is said.
    if time is None or (time == "day" and rng.random() < 0.7):
        return
    yield _qa("time", rng, time)
    if time != "evening":
        kind = rng.choice(("is_night", "is_day"))
        yield _qa(kind, rng, "Yes" if kind == f"is_{time}" else "No")


# Presence


def _existence(
    photo: Photograph, statistics: Cooccurrence, rng: random.Random
) -> list[QA]:
    """As many present as absent nouns."""
    present = sorted(photo.nouns.present)
    wanted = min(3, len(present))
    absent: list[str] = []
    for _ in range(wanted * 4):
        noun = statistics.absent(photo.nouns, rng, rng.random() < _LIKELY_SHARE)
        if noun is not None and noun not in absent and len(absent) < wanted:
            absent.append(noun)
    chosen = rng.sample(present, len(absent))
    asked = [_exists(noun, True, rng) for noun in chosen]
    return asked + [_exists(noun, False, rng) for noun in absent]


def _exists(noun: str, is_there: bool, rng: random.Random) -> QA:
    answer = "Yes" if is_there else "No"
    if noun in MASS:
        return _qa("exists", rng, answer, "exists_mass", a=noun)
    if noun == "person" and rng.random() < 0.7:
        return _qa("exists", rng, answer, "exists_people")
    return _qa("exists", rng, answer, a=with_article(noun), p=plural(noun))


def _choice(photo: Photograph, rng: random.Random) -> Iterator[QA]:
    kinds = ("dog", "cat", "horse", "bird", "cow", "man", "woman", "boy", "girl", "bicycle", "car",
             "boat", "surfboard", "skateboard", "snowboard", "motorcycle")  # fmt: skip
    for noun in kinds:
        if noun not in photo.nouns.present or photo.facts.counts.get(noun, 1) != 1:
            continue
        others = [other for other in kinds if other in photo.nouns.absent]
        near = [
            other for other in others
            if (other in lexicon.agents()) == (noun in lexicon.agents())
        ]  # fmt: skip
        if near:
            pair = [noun, rng.choice(near)]
            rng.shuffle(pair)
            a, b = map(with_article, pair)
            yield _qa("choice", rng, with_article(noun), a=a, b=b)


# What no caption says


def _unknown(photo: Photograph, rng: random.Random) -> Iterator[QA]:
    yield _qa("read_text", rng, UNREADABLE)
    yield _qa("cannot_other", rng, UNKNOWN)
    for subject in photo.facts.subjects:
        if subject.is_plural:
            continue
        gaps = {"s": f"the {subject.name}"}
        yield _qa("cannot_name", rng, UNKNOWN, **gaps)
        yield _qa("cannot_age", rng, UNKNOWN, **gaps)
        if subject.category in PEOPLE:
            yield _qa("cannot_person", rng, UNKNOWN, **gaps)
    for thing in sorted(photo.facts.colours):
        if thing not in ANIMALS and thing not in PLURAL_THINGS:
            yield _qa("cannot_brand", rng, UNKNOWN, s=f"the {thing}")


Maker = Callable[[Photograph, random.Random], Iterator[QA]]
# Each kind's maker and how many of its questions a photograph has at most.
_KINDS: dict[str, tuple[Maker, int]] = {
    "describe": (_describe, 2),
    "describe_more": (_describe_more, 1),
    "what_is_it": (_what_is_it, 1),
    "who": (_who, 1),
    "animals": (_animals, 1),
    "doing": (_doing, 2),
    "doing_described": (_doing_described, 2),
    "who_does": (_who_does, 1),
    "is_doing": (_is_doing, 1),
    "choice_doing": (_choice_doing, 1),
    "count": (_count, 3),
    "count_none": (_count_none, 1),
    "colour": (_colour, 2),
    "is_colour": (_is_colour, 1),
    "choice_colour": (_choice_colour, 1),
    "wearing": (_wearing, 1),
    "holding": (_holding, 1),
    "object_of": (_object_of, 1),
    "place": (_place, 1),
    "where": (_where, 1),
    "inout": (_inout, 1),
    "season": (_season, 1),
    "sport": (_sport, 1),
    "time": (_time, 1),
    "choice": (_choice, 1),
}


# Conversations


def conversations(photo: Photograph, rng: random.Random) -> list[list[QA]]:
    """Conversations of two to four turns, whose later turns speak of "it", "he", "they"."""
    talks = []
    for subject in photo.facts.subjects:
        turns = list(_turns(photo, subject, rng))
        if len(turns) > 1:
            talks.append(turns[: rng.randint(2, 4)])
    return talks


def _turns(photo: Photograph, subject: Subject, rng: random.Random) -> Iterator[QA]:
    named = with_article(subject.name)
    if subject.is_plural:
        counted = _numbered(photo, subject.category)
        if counted is None:
            return
        number = counted.split()[0]
        noun = plural(subject.category)
        if rng.random() < 0.5:
            yield _qa("conversation", rng, number, "count", p=noun)
        else:
            yield QA(f"Are there any {noun}?", "Yes.", "conversation")
            yield QA("How many?", sentence(number), "conversation")
    elif subject.category in ANIMALS:
        yield _qa("conversation", rng, named, "what_animal")
    elif photo.facts.counts.get("person") == 1:
        yield _qa("conversation", rng, named, "who")
    else:
        yield _qa("conversation", rng, "Yes", "exists", a=named, p=plural(subject.name))
    yield from _follow_ups(photo, subject, rng)


def _follow_ups(
    photo: Photograph, subject: Subject, rng: random.Random
) -> Iterator[QA]:
    pronoun = "they" if subject.is_plural else _PRONOUNS.get(subject.category)
    if subject.category in ANIMALS and not subject.is_plural:
        pronoun = "it"
    if pronoun is None:
        pronoun = f"the {subject.name}"
    be = "are" if subject.is_plural else "is"
    turns: list[tuple[str, str]] = []
    action = _best_action(subject, rng)
    if action:
        ask = (f"What {be} {pronoun} doing?", f"And what {be} {pronoun} doing?")
        turns.append((rng.choice(ask), action.text))
    colours = photo.facts.colours.get(subject.category)
    if colours and subject.category in ANIMALS and not subject.is_plural:
        ask = (
            "What colour is it?",
            "What color is it?",
            "And its colour?",
            "Which color is it?",
        )
        turns.append((rng.choice(ask), _listed(colours)))
    if subject.worn and not subject.is_plural and subject.category in PEOPLE:
        ask = (f"What {be} {pronoun} wearing?", f"And what {be} {pronoun} wearing?")
        turns.append((rng.choice(ask), rng.choice(subject.worn)))
    phrase = _scene_phrase(photo)
    if phrase:
        ask = (f"Where {be} {pronoun}?", f"And where {be} {pronoun}?", "Where is that?")
        turns.append((rng.choice(ask), phrase))
    if photo.facts.outdoors is not None:
        ask = ("Is it indoors or outdoors?", "Indoors or outdoors?")
        turns.append(
            (rng.choice(ask), "Outdoors" if photo.facts.outdoors else "Indoors")
        )
    if photo.captions:
        ask = ("Describe the whole picture.", "Now describe it in one sentence.")
        turns.append((rng.choice(ask), rng.choice(photo.captions)))
    rng.shuffle(turns)
    for question, answer in turns[:3]:
        yield QA(question, sentence(answer), "conversation")


# Queries


def queries(photo: Photograph, rng: random.Random) -> list[str]:
    """What somebody might type to find the photograph: "dog snow", "two men", "red bicycle"."""
    found: list[str] = []
    scene = photo.facts.scene
    for subject in photo.facts.subjects:
        if subject.votes < 2:
            continue
        plain = subject.name
        forms = [plain, with_article(plain) if not subject.is_plural else plain]
        if not subject.is_plural:
            forms.append(plural(plain))
        else:
            forms.append(_numbered(photo, subject.category) or plain)
        found.append(rng.choice(forms))
        colours = photo.facts.colours.get(subject.category)
        if colours and not subject.is_plural:
            noun = f"{' and '.join(colours)} {plain}"
            found.append(rng.choice((noun, with_article(noun))))
        if scene:
            words = scene.phrase.split()
            found.append(
                rng.choice((f"{plain} {scene.phrase}", f"{plain} {words[-1]}"))
            )
        action = _best_action(subject, rng)
        if action:
            found.append(f"{rng.choice(forms[:2])} {action.text}")
            if not lexicon.verbs()[action.gerund].needs_object:
                found.append(f"{plain} {action.gerund}")
    for thing, colours in sorted(photo.facts.colours.items()):
        if thing not in ANIMALS:
            noun = f"{' and '.join(colours)} {thing}"
            is_many = thing in PLURAL_THINGS
            found.append(noun if is_many else rng.choice((noun, with_article(noun))))
    if photo.facts.sport:
        found.append(photo.facts.sport)
    return list(dict.fromkeys(found))
