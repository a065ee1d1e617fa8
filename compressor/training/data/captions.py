"""What can be said about a composed scene: captions, places of two things, and what is not there.

Knows nothing of pixels or questions.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from compressor.training.data import vocabulary
from compressor.training.data.colours import COLOURS
from compressor.training.data.objects import Objects
from compressor.training.data.scenes import Placed, Scene
from compressor.training.data.vocabulary import counted, with_article

OPPOSITE = {
    "to the left of": "to the right of",
    "to the right of": "to the left of",
    "above": "below",
    "below": "above",
}
_MIN_GAP = 0.12  # of the image's side, between centres, for one thing to be clearly left of or above another
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
    """A caption: "Three apples and a pear on a blue background."; places of two things are sometimes told."""
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
    """A hard negative: another background, colours swapped, the relation turned, an object or a number replaced."""
    return rng.choice([pair for make in (_background, _colours, _relation, _object, _number)
                       for pair in make(scene, rng, objects)])  # fmt: skip


def _background(scene: Scene, rng: random.Random, _objects: Objects) -> Iterator[CaptionPair]:
    other = rng.choice([colour for colour in COLOURS if colour != scene.background])
    things = listing(scene.counts)
    yield CaptionPair(_on(things, scene.background), _on(things, other), "background")


def _colours(scene: Scene, _rng: random.Random, _objects: Objects) -> Iterator[CaptionPair]:
    """ "a red apple on a blue background" against "a blue apple on a red background"."""
    only = scene.objects[0]
    if len(scene.objects) == 1 and only.colour:
        right, wrong = (with_article(f"{colour} {only.name}") for colour in (only.colour, scene.background))
        yield CaptionPair(_on(right, scene.background), _on(wrong, only.colour), "colours")


def _relation(scene: Scene, rng: random.Random, _objects: Objects) -> Iterator[CaptionPair]:
    if len(scene.objects) == 2 and len(scene.counts) == 2:
        one, other = rng.sample(scene.objects, 2)
        for clear in relations(one, other):
            right, wrong = (
                f"{with_article(one.name)} {words} {with_article(other.name)}" for words in (clear, OPPOSITE[clear])
            )
            yield CaptionPair(_on(right, scene.background), _on(wrong, scene.background), "relation")


def _object(scene: Scene, rng: random.Random, objects: Objects) -> Iterator[CaptionPair]:
    other = absent_name(scene, rng, objects)
    if other in objects.by_name:
        replaced = rng.choice(list(scene.counts))
        counts = {str(other) if name == replaced else name: count for name, count in scene.counts.items()}
        yield CaptionPair(
            _on(listing(scene.counts), scene.background), _on(listing(counts), scene.background), "object"
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
    # Mostly beside: further apart in this direction than in the other, so that no reader would say it otherwise.
    if abs(across) >= _MIN_GAP and abs(across) > abs(down) * 0.7:
        yield "to the left of" if across < 0 else "to the right of"
    if abs(down) >= _MIN_GAP and abs(down) > abs(across) * 0.7:
        yield "above" if down < 0 else "below"


def absent_name(scene: Scene, rng: random.Random, objects: Objects) -> str | None:
    """A noun that is clearly not in the scene: half of the time of a category that is, sometimes a category's word."""
    categories = {placed.category for placed in scene.objects}
    if rng.random() < 0.15:
        clear = [word for category, word in vocabulary.CATEGORY_WORDS.items() if not _NEAR[category] & categories]
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
