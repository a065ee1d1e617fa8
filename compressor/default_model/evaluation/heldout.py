"""The fixed held-out sets of evaluation: photographs and scenes that training never sees.

Knows nothing of models. Every set is the same for the same photographs and objects.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from PIL import Image

from compressor.default_model.data.colours import COLOURS
from compressor.default_model.data.cutouts import Objects
from compressor.default_model.data.english import NUMBERS, names, plural, with_article
from compressor.default_model.data.photos import Photos, named
from compressor.default_model.data.questions import (
    PLAIN_NAMING,
    CaptionPair,
    absent_name,
    changed,
    relations,
)
from compressor.default_model.data.scenes import Placed, Scene, compose
from compressor.evaluation.scores import RetrievalSet

SCENES_PER_SET = 200


@dataclass(frozen=True)
class HeldOutQuestion:
    """A question with the one right answer."""

    image: Image.Image  # RGB
    question: str
    expected: str  # a label, a colour word, a number word, yes or no, left or right, top or bottom
    scorer: str  # a key of scoring.SCORERS


def naming(photos: Photos) -> Iterator[HeldOutQuestion]:
    """The plain question for each held-out photograph that has a label."""
    for photo in photos.held_out:
        if photo.label:
            yield HeldOutQuestion(photo.open(), PLAIN_NAMING, photo.label, "name")


def label_retrieval(photos: Photos) -> RetrievalSet:
    """ "a photo of a LABEL" for one photograph of each held-out class."""
    found = [photo for photo in photos.held_out if photo.label]
    return RetrievalSet(found, [f"a photo of {named(photo.label or '')}" for photo in found])


def caption_retrieval(photos: Photos) -> RetrievalSet:
    """One caption, chosen by the file's name, for each held-out captioned photograph."""
    found = [photo for photo in photos.held_out if photo.captions]
    chosen = (hashlib.sha256(photo.path.name.encode()).digest()[0] for photo in found)
    return RetrievalSet(
        found,
        [
            photo.captions[number % len(photo.captions)]
            for photo, number in zip(found, chosen, strict=True)
        ],
    )


def background(objects: Objects, count: int = SCENES_PER_SET) -> Iterator[HeldOutQuestion]:
    """ "What colour is the background?" over scenes of any make."""
    for rng in _seeds("background", count):
        scene = compose(rng, objects.held_out())
        yield HeldOutQuestion(
            scene.image, "What colour is the background?", scene.background, "colour"
        )


def counting(objects: Objects, most: int, count: int = SCENES_PER_SET) -> Iterator[HeldOutQuestion]:
    """ "How many apples are there?", each number from one to `most` equally often."""
    for number, rng in enumerate(_seeds(f"counting 1-{most}", count)):
        alike = 1 + number % most
        scene = compose(rng, objects.held_out(), groups=(alike,))
        question = f"How many {plural(scene.objects[0].name)} are there?"
        yield HeldOutQuestion(scene.image, question, NUMBERS[alike], "number")


def existence(objects: Objects, count: int = SCENES_PER_SET) -> Iterator[HeldOutQuestion]:
    """ "Is there an apple in the image?", yes and no in turn; the absent thing is of a held-out name
    too.
    """
    for number, rng in enumerate(_seeds("existence", count)):
        scene, noun = _scene_and_noun(rng, objects.held_out(), present=number % 2 == 0)
        question = f"Is there {with_article(noun)} in the image?"
        yield HeldOutQuestion(scene.image, question, "no" if number % 2 else "yes", "yes_no")


def left_or_right(objects: Objects, count: int = SCENES_PER_SET) -> Iterator[HeldOutQuestion]:
    """Half of the set: on which side of the image one thing is; the other half: on which side of
    another thing.
    """
    yield from _places(objects, count, "left", "right")


def top_or_bottom(objects: Objects, count: int = SCENES_PER_SET) -> Iterator[HeldOutQuestion]:
    """The same in height; of two things one is above or below the other."""
    yield from _places(objects, count, "top", "bottom")


def hard_negatives(
    objects: Objects, count: int = SCENES_PER_SET
) -> Iterator[tuple[Image.Image, CaptionPair]]:
    """Scenes, each with a right caption and one that is wrong in a single thing; chance is one half."""
    for rng in _seeds("hard negatives", count):
        scene = compose(rng, objects.held_out())
        yield scene.image, changed(scene, rng, objects.held_out())


def _places(objects: Objects, count: int, low: str, high: str) -> Iterator[HeldOutQuestion]:
    """The four cases (alone or beside another, low or high) equally often."""
    across = low == "left"
    for number, rng in enumerate(_seeds(f"{low} {high}", count)):
        wanted = low if number % 4 < 2 else high
        if number % 2:
            scene, (one, other) = _pair(rng, objects.held_out(), wanted)
            words = "to the left or to the right of" if across else "above or below"
            question = f"Is the {one.name} {words} the {other.name}?"
        else:
            scene, one = _alone(rng, objects.held_out(), wanted)
            words = "on the left or on the right" if across else "at the top or at the bottom"
            question = f"Is the {one.name} {words}?"
        yield HeldOutQuestion(scene.image, question, wanted, "side" if across else "height")


def _alone(rng: random.Random, objects: Objects, wanted: str) -> tuple[Scene, Placed]:
    while True:
        scene = compose(rng, objects, groups=(1,))
        placed = scene.objects[0]
        if wanted in (placed.across, placed.down):
            return scene, placed


def _pair(rng: random.Random, objects: Objects, wanted: str) -> tuple[Scene, tuple[Placed, Placed]]:
    relation = {
        "left": "to the left of",
        "right": "to the right of",
        "top": "above",
        "bottom": "below",
    }[wanted]
    while True:
        scene = compose(rng, objects, groups=(1, 1))
        one, other = scene.objects
        for first, second in ((one, other), (other, one)):
            if relation in relations(first, second):
                return scene, (first, second)


def _scene_and_noun(rng: random.Random, objects: Objects, present: bool) -> tuple[Scene, str]:
    while True:
        scene = compose(rng, objects)
        if present:
            return scene, rng.choice(scene.objects).name
        noun = absent_name(scene, rng, objects)
        if noun in names():  # and not the word of a category
            return scene, str(noun)


def _seeds(name: str, count: int) -> Iterator[random.Random]:
    return (random.Random(f"held out/{name}/{number}") for number in range(count))


# When an answer counts as right: one rule for each kind of expected answer.
#  An answer is judged by the first word that decides; what follows it is not read.


_SIDES = {"left": "left", "right": "right"}
_HEIGHTS = {"top": "top", "above": "top", "bottom": "bottom", "below": "bottom"}
_NUMBER_OF = {
    **{word: word for word in NUMBERS},
    **{str(value): word for value, word in enumerate(NUMBERS)},
}
_COLOUR_OF = {**{word: word for word in COLOURS}, "gray": "grey"}


def name_is_right(answer: str, label: str) -> bool:
    """The label or its last word stands in the answer, whole words, singular or plural, in any case."""
    words = _words(answer)
    text = f" {' '.join(words)} "
    wanted = _words(label)
    return f" {' '.join(wanted)} " in text or any(
        form in words for form in (wanted[-1], wanted[-1] + "s", wanted[-1] + "es")
    )


def colour_is_right(answer: str, colour: str) -> bool:
    """The first basic colour word of the answer is the one; gray is grey."""
    return _first(answer, _COLOUR_OF) == _COLOUR_OF[colour]


def number_is_right(answer: str, number: str) -> bool:
    """The first number of the answer, in a word or digits, is the one."""
    return _first(answer, _NUMBER_OF) == _NUMBER_OF[number]


def yes_or_no_is_right(answer: str, expected: str) -> bool:
    """The first word of the answer is the expected yes or no."""
    return _words(answer)[:1] == [expected]


def side_is_right(answer: str, expected: str) -> bool:
    """The first of left and right in the answer is the expected one."""
    return _first(answer, _SIDES) == expected


def height_is_right(answer: str, expected: str) -> bool:
    """The first of top (or above) and bottom (or below) in the answer is the expected one."""
    return _first(answer, _HEIGHTS) == expected


SCORERS: dict[str, Callable[[str, str], bool]] = {
    "name": name_is_right,
    "colour": colour_is_right,
    "number": number_is_right,
    "yes_no": yes_or_no_is_right,
    "side": side_is_right,
    "height": height_is_right,
}


def _first(answer: str, meanings: dict[str, str]) -> str | None:
    return next((meanings[word] for word in _words(answer) if word in meanings), None)


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+(?:['-][a-z0-9]+)*", text.lower())
