"""Questions about composed scenes with their answers, in many wordings.

Knows nothing of pixels. Style of every answer: the key word or words first, nothing before them, a
full stop behind ("Blue.", "Three.", "Yes.", "An apple.", "Top left."); only descriptions are whole
sentences.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from compressor.default_model.data import english
from compressor.default_model.data.colours import COLOURS
from compressor.default_model.data.cutouts import Objects
from compressor.default_model.data.english import NUMBERS, counted, plural, with_article
from compressor.default_model.data.scenes import Placed, Scene
from compressor.training.sample import QA

# What can be said about a composed scene: captions, places of two things, and what is not there.


OPPOSITE = {
    "to the left of": "to the right of",
    "to the right of": "to the left of",
    "above": "below",
    "below": "above",
}
# of the image's side, between centres, for one thing to be clearly left of or above another
_MIN_GAP = 0.12
# Names so general that another thing of their category may well be called by them.
_GENERAL = frozenset(
    {
        "bird", "fish", "flower", "tree", "hat", "dog", "car", "boat", "ship", "house", "book", "ball", "box",
        "bottle", "cake", "shoe", "boot",
    }
)  # fmt: skip
# Asked whether there is "a fruit", a scene with any of these categories allows no clear "no".
_NEAR = {
    "animal": {"animal", "bird", "fish", "insect", "toy"},
    "bird": {"bird"},
    "insect": {"insect", "animal"},
    "fruit": {"fruit", "vegetable", "plant", "food", "drink"},
    "vegetable": {"fruit", "vegetable", "plant", "food"},
    "vehicle": {"vehicle", "toy"},
    "tool": {"tool", "household", "office", "device", "furniture", "clothing", "toy"},
    "instrument": {"instrument", "device", "toy", "tool"},
    "building": {"building", "furniture"},
    "plant": {"plant", "fruit", "vegetable", "nature"},
}


@dataclass(frozen=True)
class CaptionPair:
    """A caption and one that differs from it in a single thing, which makes it wrong."""

    right: str
    wrong: str
    change: str  # "background", "colours", "relation", "object" or "number"


def describe(scene: Scene, rng: random.Random) -> str:
    """A caption: "Three apples and a pear on a blue background."; places of two things are
    sometimes told.
    """
    things = listing(scene.counts)
    if len(scene.objects) == 2 and len(scene.counts) == 2:
        one, other = rng.sample(scene.objects, 2)
        clear = list(relations(one, other))
        if clear and rng.random() < 0.6:
            things = f"{with_article(one.name)} {rng.choice(clear)} {with_article(other.name)}"
    elif len(scene.objects) == 1 and scene.objects[0].colour and rng.random() < 0.4:
        only = scene.objects[0]
        things = with_article(f"{only.colour} {only.name}") if " of " not in only.name else things
    return _on(things, scene.background)


def listing(counts: Mapping[str, int]) -> str:
    """ "an apple, two pears and a cat", in the given order."""
    parts = [counted(count, name) for name, count in counts.items()]
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def changed(scene: Scene, rng: random.Random, objects: Objects) -> CaptionPair:
    """A hard negative: another background, colours swapped, the relation turned, an object or a
    number replaced.
    """
    return rng.choice([pair for make in (_other_background, _colours, _relation, _object, _number)
                       for pair in make(scene, rng, objects)])  # fmt: skip


def _other_background(scene: Scene, rng: random.Random, _objects: Objects) -> Iterator[CaptionPair]:
    other = rng.choice([colour for colour in COLOURS if colour != scene.background])
    things = listing(scene.counts)
    yield CaptionPair(_on(things, scene.background), _on(things, other), "background")


def _colours(scene: Scene, _rng: random.Random, _objects: Objects) -> Iterator[CaptionPair]:
    """ "a red apple on a blue background" against "a blue apple on a red background"."""
    only = scene.objects[0]
    if len(scene.objects) == 1 and only.colour:
        right, wrong = (
            with_article(f"{colour} {only.name}") for colour in (only.colour, scene.background)
        )
        yield CaptionPair(_on(right, scene.background), _on(wrong, only.colour), "colours")


def _relation(scene: Scene, rng: random.Random, _objects: Objects) -> Iterator[CaptionPair]:
    if len(scene.objects) == 2 and len(scene.counts) == 2:
        one, other = rng.sample(scene.objects, 2)
        for clear in relations(one, other):
            right, wrong = (
                f"{with_article(one.name)} {words} {with_article(other.name)}"
                for words in (clear, OPPOSITE[clear])
            )
            yield CaptionPair(
                _on(right, scene.background), _on(wrong, scene.background), "relation"
            )


def _object(scene: Scene, rng: random.Random, objects: Objects) -> Iterator[CaptionPair]:
    other = absent_name(scene, rng, objects)
    if other in objects.by_name:
        replaced = rng.choice(list(scene.counts))
        counts = {
            str(other) if name == replaced else name: count for name, count in scene.counts.items()
        }
        yield CaptionPair(
            _on(listing(scene.counts), scene.background),
            _on(listing(counts), scene.background),
            "object",
        )


def _number(scene: Scene, rng: random.Random, _objects: Objects) -> Iterator[CaptionPair]:
    name, count = rng.choice(list(scene.counts.items()))
    counts = dict(scene.counts)
    counts[name] = rng.choice([number for number in (1, 2, 3, 4) if number != count])
    right, wrong = (_on(listing(each), scene.background) for each in (scene.counts, counts))
    yield CaptionPair(right, wrong, "number")


def relations(one: Placed, other: Placed) -> Iterator[str]:
    """What is clearly true of where `one` is, seen from `other`."""
    across, down = (one.centre[side] - other.centre[side] for side in (0, 1))
    # Mostly beside: further apart in this direction than in the other, so that no reader would say
    # it otherwise.
    if abs(across) >= _MIN_GAP and abs(across) > abs(down) * 0.7:
        yield "to the left of" if across < 0 else "to the right of"
    if abs(down) >= _MIN_GAP and abs(down) > abs(across) * 0.7:
        yield "above" if down < 0 else "below"


def absent_name(scene: Scene, rng: random.Random, objects: Objects) -> str | None:
    """A noun that is clearly not in the scene: half of the time of a category that is, sometimes a
    category's word.
    """
    categories = {placed.category for placed in scene.objects}
    if rng.random() < 0.15:
        clear = [
            word
            for category, word in english.CATEGORY_WORDS.items()
            if not _NEAR[category] & categories
        ]
        return rng.choice(clear) if clear else None
    words = {word for name in scene.counts for word in name.split()}
    pool = objects.names
    if rng.random() < 0.5:
        pool = tuple(objects.names_of_category.get(rng.choice(sorted(categories)), ())) or pool
    for _ in range(20):
        name = rng.choice(pool)
        general = name in _GENERAL and objects.by_name[name][0].category in categories
        if not general and not words & set(name.split()) - {"of"}:
            return name
    return None


def capitalised(text: str) -> str:
    """With a capital letter first, the rest as it is."""
    return text[:1].upper() + text[1:]


def _on(things: str, background: str) -> str:
    return f"{capitalised(things)} on {with_article(background)} background."


# The wordings of questions about images, ten or more for each kind.


PLAIN_NAMING = "What is in the image?"

IMAGE_WORDS = ("image", "picture", "photo")
# {i}: image, picture, …; {n}: a name with its article; {s}: a name alone; {p}: its plural; {o}:
# another name; {d}: left, right, above, below; {r}: "to the left of" …; {c}: a colour word
WORDINGS: dict[str, tuple[str, ...]] = {
    "naming": (
        PLAIN_NAMING, "What is in the {i}?", "What does the {i} show?", "What can you see in the {i}?",
        "What is shown in the {i}?", "What do you see?", "What is this?", "What objects are in the {i}?",
        "Name what is in the {i}.", "What is depicted here?", "What is pictured in the {i}?",
        "Which things are in the {i}?", "What appears in the {i}?",
    ),
    "background": (
        "What colour is the background?", "What color is the background?", "What is the background colour?",
        "What is the background color?", "What is the colour of the background?",
        "What is the color of the background?", "Which colour is the background of the {i}?",
        "What color is behind the objects?", "Name the background colour.",
        "On what colour of background is the {i}?", "What color does the background have?",
        "The background of the {i} is what colour?",
    ),
    "count": (
        "How many {p} are there?", "How many {p} are in the {i}?", "How many {p} can you see?", "Count the {p}.",
        "How many {p} does the {i} show?", "What is the number of {p}?", "How many {p} do you see in the {i}?",
        "How many {p} are shown?", "What number of {p} is in the {i}?", "Can you count the {p} in the {i}?",
        "There are how many {p}?",
    ),
    "count_all": (
        "How many objects are there?", "How many objects are in the {i}?", "How many things are in the {i}?",
        "How many things can you see?", "Count the objects.", "How many items are there in the {i}?",
        "What is the number of objects in the {i}?", "How many objects does the {i} show?",
        "Count the things in the {i}.", "How many items can you see?", "In total, how many objects are there?",
    ),
    "exists": (
        "Is there {n}?", "Is there {n} in the {i}?", "Can you see {n}?", "Does the {i} show {n}?",
        "Do you see {n} in the {i}?", "Does the {i} contain {n}?", "Is {n} in the {i}?", "Is {n} shown in the {i}?",
        "Is {n} visible?", "Is there {n} here?", "Are there any {p} in the {i}?", "Are there any {p}?",
    ),
    "side": (
        "Is the {s} to the left or to the right of the {o}?", "Is the {s} left or right of the {o}?",
        "On which side of the {o} is the {s}, left or right?", "Left or right: where is the {s} relative to the {o}?",
        "Is the {s} on the left or on the right of the {o}?", "The {s} is on which side of the {o}?",
        "To which side of the {o} is the {s}?", "Which side of the {o} is the {s} on?",
        "Compared with the {o}, is the {s} left or right?",
        "Is the {s} on the left side or the right side of the {o}?",
    ),
    "height": (
        "Is the {s} above or below the {o}?", "Is the {s} over or under the {o}, above or below?",
        "Above or below: where is the {s} relative to the {o}?",
        "Is the {s} higher than the {o} (above) or lower (below)?", "Is the {s} placed above or below the {o}?",
        "Compared with the {o}, is the {s} above or below?", "In the {i}, is the {s} above or below the {o}?",
        "Does the {s} lie above or below the {o}?", "Where is the {s}, above or below the {o}?",
        "Tell me if the {s} is above or below the {o}.",
    ),
    "where": (
        "Where is the {s}?", "Where is the {s} in the {i}?", "In which part of the {i} is the {s}?",
        "Where can you see the {s}?", "What is the position of the {s}?", "In what area of the {i} is the {s}?",
        "Where in the {i} is the {s}?", "Where does the {s} appear?", "Where is the {s} located?",
        "Which part of the {i} shows the {s}?",
    ),
    "where_across": (
        "Is the {s} on the left or on the right?", "Is the {s} on the left or right of the {i}?",
        "Is the {s} on the left side or the right side of the {i}?", "Left or right: where is the {s}?",
        "Which side is the {s} on, left or right?", "On which side of the {i} is the {s}?",
        "On which side is the {s}?", "Does the {s} appear on the left or on the right?",
        "In which half of the {i} is the {s}, left or right?", "Is the {s} in the left half or the right half?",
    ),
    "where_down": (
        "Is the {s} at the top or at the bottom?", "Is the {s} at the top or bottom of the {i}?",
        "Is the {s} in the top half or the bottom half of the {i}?", "Top or bottom: where is the {s}?",
        "In which half is the {s}, top or bottom?", "Does the {s} appear at the top or at the bottom?",
        "Is the {s} near the top or near the bottom?", "Where is the {s}, top or bottom?",
        "Is the {s} in the top part or in the bottom part of the {i}?",
        "Is the {s} close to the top or the bottom edge?",
    ),
    "what_beside": (
        "What is to the {d} of the {o}?", "What is on the {d} of the {o}?", "Which object is to the {d} of the {o}?",
        "What can you see to the {d} of the {o}?", "Name the object to the {d} of the {o}.",
        "What lies to the {d} of the {o}?", "What is there to the {d} of the {o}?",
        "What thing is to the {d} of the {o} in the {i}?", "To the {d} of the {o}, what is there?",
        "Which thing is on the {d} side of the {o}?",
    ),
    "what_above": (
        "What is {d} the {o}?", "Which object is {d} the {o}?", "What can you see {d} the {o}?",
        "Name the object {d} the {o}.", "What lies {d} the {o}?", "What is there {d} the {o}?",
        "What thing is {d} the {o} in the {i}?", "In the {i}, what is {d} the {o}?", "What is shown {d} the {o}?",
        "Which thing appears {d} the {o}?",
    ),
    "relation_true": (
        "Is the {s} {r} the {o}?", "In the {i}, is the {s} {r} the {o}?", "Is it true that the {s} is {r} the {o}?",
        "Can you see the {s} {r} the {o}?", "Does the {s} lie {r} the {o}?", "Is the {s} placed {r} the {o}?",
        "Does the {i} show the {s} {r} the {o}?", "Would you say the {s} is {r} the {o}?",
        "The {s} is {r} the {o}, right?", "Is there {n} {r} the {o}?",
    ),
    "colour": (
        "What colour is the {s}?", "What color is the {s}?", "What is the colour of the {s}?",
        "What is the color of the {s}?", "Which colour is the {s}?", "What colour does the {s} have?",
        "What color does the {s} have?", "Name the colour of the {s}.", "Name the main color of the {s}.",
        "What is the main colour of the {s}?", "In the {i}, what color is the {s}?",
    ),
    "colour_many": (
        "What colour are the {p}?", "What color are the {p}?", "What is the colour of the {p}?",
        "Which colour are the {p}?", "What is the color of the {p}?", "What colour do the {p} have?",
        "What color do the {p} have?", "Name the colour of the {p}.", "What is the main color of the {p}?",
        "In the {i}, what colour are the {p}?",
    ),
    "is_background": (
        "Is the background {c}?", "Is the background of the {i} {c}?", "Does the {i} have a {c} background?",
        "Is there a {c} background?", "Is {c} the colour of the background?", "Is {c} the color of the background?",
        "Do you see a {c} background?", "Is it on a {c} background?", "Is the {i}'s background {c}?",
        "Would you call the background {c}?",
    ),
    "caption": (
        "Describe the image.", "Describe the {i}.", "Give a short description of the {i}.",
        "Write a caption for the {i}.", "What is happening in the {i}?", "Caption this {i}.",
        "Describe what you see.", "Describe this {i} in one sentence.", "Summarise the {i}.",
        "Tell me about the {i}.",
    ),
}  # fmt: skip


def worded(kind: str, rng: random.Random, plain: bool = False, **words: str) -> str:
    """A random wording of a kind of question, or the plainest, with its gaps filled."""
    return (WORDINGS[kind][0] if plain else rng.choice(WORDINGS[kind])).format(
        i=rng.choice(IMAGE_WORDS), **words
    )


_HYPERNYMS = {
    "animal": {"animal", "bird", "insect", "fish"}
}  # "bird" is an animal too; else the category itself


def questions(
    scene: Scene, rng: random.Random, objects: Objects, hidden: Collection[str] = frozenset()
) -> list[QA]:
    """A question of each kind that has a clear answer here; `objects` gives names of things that
    are absent.

    `hidden` are the names that the projector is not to know here.
    """
    found = [qa for make in KINDS.values() for qa in make(scene, rng, objects)]
    return [*found, *_exists(scene, rng, objects, hidden)]


def both_ways(scene: Scene, rng: random.Random) -> list[QA]:
    """How two different things lie to one another, asked from either side, and where each of them
    is, in random order.

    Asked one way only, "right" or "left" is learned by heart long before which of the two things is
    meant. Half of the scenes are asked in the plainest wording, which is learned from sooner.
    """
    one, other = scene.objects
    plain = rng.random() < 0.5
    found = [
        _lies(relation, *pair, rng, plain)
        for pair in ((one, other), (other, one))
        for relation in relations(*pair)
    ]
    for placed in (one, other):
        found += _placed(placed, rng, plain)
    rng.shuffle(found)
    return found


def _naming(scene: Scene, rng: random.Random, _objects: Objects) -> Iterator[QA]:
    yield _qa("naming", rng, listing(scene.counts))


def _background(scene: Scene, rng: random.Random, _objects: Objects) -> Iterator[QA]:
    yield _qa("background", rng, scene.background)


def _is_background(scene: Scene, rng: random.Random, _objects: Objects) -> Iterator[QA]:
    true = rng.random() < 0.5
    others = [colour for colour in COLOURS if colour != scene.background]
    yield _qa("is_background", rng, _yes(true), c=scene.background if true else rng.choice(others))


def _count(scene: Scene, rng: random.Random, _objects: Objects) -> Iterator[QA]:
    names = list(scene.counts)
    name = rng.choices(names, [scene.counts[each] ** 2 for each in names])[0]
    # Most things stand alone; were all of them counted, "one" would be the answer to guess.
    if scene.counts[name] > 1 or rng.random() < 0.4:
        yield _qa("count", rng, NUMBERS[scene.counts[name]], p=plural(name))


def _count_all(scene: Scene, rng: random.Random, _objects: Objects) -> Iterator[QA]:
    yield _qa("count_all", rng, NUMBERS[len(scene.objects)])


def _exists(
    scene: Scene, rng: random.Random, objects: Objects, hidden: Collection[str]
) -> Iterator[QA]:
    # Were yes and no even over all questions, "no" would mostly be right where nothing seen bears
    # the name. So things of a hidden name are asked for more often, and others less often in vain.
    unnamed = [placed.name for placed in scene.objects if placed.name in hidden]
    true = rng.random() < (0.65 if unnamed else 0.6)
    if true and unnamed and rng.random() < 0.85:
        noun: str | None = rng.choice(unnamed)
    else:
        noun = (_present if true else absent_name)(scene, rng, objects)
    if noun:
        yield _qa("exists", rng, _yes(true), n=with_article(noun), p=plural(noun))


def _where(scene: Scene, rng: random.Random, _objects: Objects) -> Iterator[QA]:
    placed = _unique(scene, rng)
    if not placed:
        return
    words = [word for word in (placed.down, placed.across) if word]
    if len(words) == 2:
        answer = (
            "middle"
            if set(words) == {"middle"}
            else " ".join(word for word in words if word != "middle")
        )
        yield _qa("where", rng, answer, s=placed.name)
    yield from _placed(placed, rng)


def _placed(placed: Placed, rng: random.Random, plain: bool = False) -> Iterator[QA]:
    if placed.across in ("left", "right"):
        yield _qa("where_across", rng, placed.across, plain, s=placed.name)
    if placed.down in ("top", "bottom"):
        yield _qa("where_down", rng, placed.down, plain, s=placed.name)


def _lies(relation: str, one: Placed, other: Placed, rng: random.Random, plain: bool = False) -> QA:
    word = _word(relation)
    return _qa(
        "side" if word in ("left", "right") else "height",
        rng,
        word,
        plain,
        s=one.name,
        o=other.name,
    )


def _word(relation: str) -> str:
    """ "to the left of" → "left"."""
    return relation.removeprefix("to the ").removesuffix(" of")


def _beside(scene: Scene, rng: random.Random, _objects: Objects) -> Iterator[QA]:
    names = [name for name, count in scene.counts.items() if count == 1]
    if len(names) < 2:
        return
    first, second = rng.sample(names, 2)
    one, other = (
        next(placed for placed in scene.objects if placed.name == name) for name in (first, second)
    )
    for relation in relations(one, other):
        lies = _lies(relation, one, other, rng)
        yield lies
        if len(scene.objects) == 2:
            kind = "what_beside" if lies.kind == "side" else "what_above"
            yield _qa(kind, rng, with_article(one.name), o=other.name, d=_word(relation))
        true = rng.random() < 0.5
        claimed = relation if true else OPPOSITE[relation]
        yield _qa(
            "relation_true",
            rng,
            _yes(true),
            s=one.name,
            o=other.name,
            r=claimed,
            n=with_article(one.name),
        )


def _colour(scene: Scene, rng: random.Random, _objects: Objects) -> Iterator[QA]:
    name = rng.choice(list(scene.counts))
    found = {placed.colour for placed in scene.objects if placed.name == name}
    colour = found.pop()
    if colour and not found:
        kind = "colour" if scene.counts[name] == 1 else "colour_many"
        yield _qa(kind, rng, colour, s=name, p=plural(name))


def _absent(scene: Scene, rng: random.Random, objects: Objects) -> Iterator[QA]:
    """Questions that rest on a wrong assumption."""
    name = absent_name(scene, rng, objects)
    if not name or name in english.CATEGORY_WORDS.values():
        return
    if rng.random() < 0.5:
        yield QA(worded("count", rng, p=plural(name)), "Zero.", "absent")
    else:
        question = worded(rng.choice(("colour", "where")), rng, s=name)
        yield QA(question, f"There is no {name}.", "absent")


def _caption(scene: Scene, rng: random.Random, _objects: Objects) -> Iterator[QA]:
    yield QA(worded("caption", rng), describe(scene, rng), "caption")


KINDS = {
    "naming": _naming,
    "background": _background,
    "is_background": _is_background,
    "count": _count,
    "count_all": _count_all,
    "where": _where,
    "beside": _beside,
    "colour": _colour,
    "absent": _absent,
    "caption": _caption,
}


def _present(scene: Scene, rng: random.Random, _objects: Objects) -> str:
    placed = rng.choice(scene.objects)
    fitting = [word for category, word in english.CATEGORY_WORDS.items()
               if placed.category in _HYPERNYMS.get(category, {category})]  # fmt: skip
    return rng.choice(fitting) if fitting and rng.random() < 0.15 else placed.name


def _unique(scene: Scene, rng: random.Random) -> Placed | None:
    """An object that is the only one of its name."""
    single = [placed for placed in scene.objects if scene.counts[placed.name] == 1]
    return rng.choice(single) if single else None


def _qa(kind: str, rng: random.Random, answer: str, plain: bool = False, **words: str) -> QA:
    return QA(worded(kind, rng, plain, **words), capitalised(answer) + ".", kind)


def _yes(true: bool) -> str:
    return "yes" if true else "no"
