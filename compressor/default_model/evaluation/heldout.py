"""The fixed held-out sets of evaluation, and when an answer to their questions is right.

Training never sees their photographs and scenes. Every set is the same for the same photographs and
objects. The first word of an answer that decides is judged; what follows it is not read.
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
from compressor.training.datasets import Entry

# Of 200 answers the standard error of a percentage is at most 3.5 points.
SCENES_PER_SET = 200
_RELATIONS = {
    "left": "to the left of",
    "right": "to the right of",
    "top": "above",
    "bottom": "below",
}
_SIDES = {"left": "left", "right": "right"}
_HEIGHTS = {
    "top": "top",
    "above": "top",
    "bottom": "bottom",
    "below": "bottom",
}
_DIGITS = {str(value): word for value, word in enumerate(NUMBERS)}
_NUMBER_OF = {**dict(zip(NUMBERS, NUMBERS, strict=True)), **_DIGITS}
_COLOUR_OF = {**dict(zip(COLOURS, COLOURS, strict=True)), "gray": "grey"}


@dataclass(frozen=True)
class HeldOutQuestion:
    """A question with the one right answer."""

    image: Image.Image  # RGB
    question: str
    # a label, a colour word, a number word, yes or no, left or right, top or bottom
    expected: str
    scorer: str  # a key of SCORERS


def naming(photos: Photos) -> Iterator[HeldOutQuestion]:
    """The plain question for each held-out photograph that has a label."""
    for photo in photos.held_out:
        if photo.label:
            yield HeldOutQuestion(photo.open(), PLAIN_NAMING, photo.label, "name")


def label_retrieval(photos: Photos) -> RetrievalSet:
    """ "a photo of a LABEL" for one photograph of each held-out class."""
    labelled = [photo for photo in photos.held_out if photo.label]
    texts = [f"a photo of {named(photo.label or '')}" for photo in labelled]
    return RetrievalSet(labelled, texts)


def caption_retrieval(photos: Photos) -> RetrievalSet:
    """One caption for each held-out captioned photograph, chosen by the name of its file."""
    captioned = [photo for photo in photos.held_out if photo.captions]
    texts = []
    for photo in captioned:
        # By a hash: the choice must not depend on which other photographs there are.
        number = hashlib.sha256(photo.path.name.encode()).digest()[0]
        texts.append(photo.captions[number % len(photo.captions)])
    return RetrievalSet(captioned, texts)


def searches(photos: Photos) -> list[list[Entry]]:
    """What people may search the held-out photographs for: names in three forms, all captions.

    Names and captions are searched for in libraries of their own.
    """
    labelled: list[Entry] = []
    captioned: list[Entry] = []
    for photo in photos.held_out:
        if photo.label:
            name = named(photo.label)
            texts = (photo.label, name, f"a photo of {name}")
            labelled.append(Entry(photo.path.name, photo.open, texts))
        if photo.captions:
            captioned.append(Entry(photo.path.name, photo.open, photo.captions))
    return [entries for entries in (labelled, captioned) if entries]


def background(
    objects: Objects, count: int = SCENES_PER_SET
) -> Iterator[HeldOutQuestion]:
    """ "What colour is the background?" over scenes of any make."""
    question = "What colour is the background?"
    for rng in _seeds("background", count):
        scene = compose(rng, objects.held_out())
        yield HeldOutQuestion(
            scene.image,
            question,
            scene.background,
            "colour",
        )


def counting(
    objects: Objects,
    most: int,
    count: int = SCENES_PER_SET,
) -> Iterator[HeldOutQuestion]:
    """ "How many apples are there?", each number from one to `most` equally often."""
    for number, rng in enumerate(_seeds(f"counting 1-{most}", count)):
        alike = 1 + number % most
        scene = compose(rng, objects.held_out(), groups=(alike,))
        question = f"How many {plural(scene.objects[0].name)} are there?"
        yield HeldOutQuestion(scene.image, question, NUMBERS[alike], "number")


def existence(
    objects: Objects, count: int = SCENES_PER_SET
) -> Iterator[HeldOutQuestion]:
    """ "Is there an apple in the image?", yes and no in turn.

    The absent object is of a held-out name too.
    """
    for number, rng in enumerate(_seeds("existence", count)):
        # Equally often, so that a model that always says the same is right half of the time.
        expected = "no" if number % 2 else "yes"
        scene, noun = _scene_and_noun(
            rng,
            objects.held_out(),
            present=expected == "yes",
        )
        question = f"Is there {with_article(noun)} in the image?"
        yield HeldOutQuestion(scene.image, question, expected, "yes_no")


def left_or_right(
    objects: Objects, count: int = SCENES_PER_SET
) -> Iterator[HeldOutQuestion]:
    """On which side of the image an object is, or on which side of another object, in turn."""
    yield from _places(objects, count, "left", "right")


def top_or_bottom(
    objects: Objects, count: int = SCENES_PER_SET
) -> Iterator[HeldOutQuestion]:
    """Whether an object is at the top or at the bottom, or above or below another, in turn."""
    yield from _places(objects, count, "top", "bottom")


def hard_negatives(
    objects: Objects, count: int = SCENES_PER_SET
) -> Iterator[tuple[Image.Image, CaptionPair]]:
    """Scenes, each with a caption and one that is wrong in one respect; chance is one half."""
    for rng in _seeds("hard negatives", count):
        scene = compose(rng, objects.held_out())
        yield scene.image, changed(scene, rng, objects.held_out())


def _places(
    objects: Objects,
    count: int,
    low: str,
    high: str,
) -> Iterator[HeldOutQuestion]:
    """The four cases (alone or beside another object, low or high) equally often."""
    pool = objects.held_out()
    across = low == "left"
    scorer = "side" if across else "height"
    for number, rng in enumerate(_seeds(f"{low} {high}", count)):
        # Another bit of the number than the one that chooses the question: neither tells the other.
        expected = low if number % 4 < 2 else high
        if number % 2:
            scene, (subject, reference) = _pair(rng, pool, expected)
            words = "to the left or to the right of" if across else "above or below"
            question = f"Is the {subject.name} {words} the {reference.name}?"
        else:
            scene, subject = _alone(rng, pool, expected)
            words = (
                "on the left or on the right"
                if across
                else "at the top or at the bottom"
            )
            question = f"Is the {subject.name} {words}?"
        yield HeldOutQuestion(scene.image, question, expected, scorer)


def _alone(rng: random.Random, objects: Objects, wanted: str) -> tuple[Scene, Placed]:
    # Drawn until it fits: a scene that was made to fit would not be like those of training.
    while True:
        scene = compose(rng, objects, groups=(1,))
        placed = scene.objects[0]
        if wanted in (placed.across, placed.down):
            return scene, placed


def _pair(
    rng: random.Random,
    objects: Objects,
    wanted: str,
) -> tuple[Scene, tuple[Placed, Placed]]:
    while True:
        scene = compose(rng, objects, groups=(1, 1))
        first, second = scene.objects
        for subject, reference in ((first, second), (second, first)):
            if _RELATIONS[wanted] in relations(subject, reference):
                return scene, (subject, reference)


def _scene_and_noun(
    rng: random.Random, objects: Objects, present: bool
) -> tuple[Scene, str]:
    while True:
        scene = compose(rng, objects)
        if present:
            return scene, rng.choice(scene.objects).name
        noun = absent_name(scene, rng, objects)
        if noun in names():  # and not the word of a category
            return scene, str(noun)


def _seeds(name: str, count: int) -> Iterator[random.Random]:
    # A generator for each scene: a longer set begins like a shorter one.
    return (random.Random(f"held out/{name}/{number}") for number in range(count))


def name_is_right(answer: str, label: str) -> bool:
    """The answer has the label or its last word: whole words, singular or plural, in any case."""
    words, wanted = _words(answer), _words(label)
    # "A retriever" is right of a golden retriever, "a golden eagle" is not: the last word decides.
    if f" {' '.join(wanted)} " in f" {' '.join(words)} ":
        return True
    last = wanted[-1]
    return not {last, f"{last}s", f"{last}es"}.isdisjoint(words)


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
    for word in _words(answer):
        if word in meanings:
            return meanings[word]
    return None


def _words(text: str) -> list[str]:
    # Hyphens and apostrophes within a word belong to it: "jack-o-lantern" is one word.
    return re.findall(r"[a-z0-9]+(?:['-][a-z0-9]+)*", text.lower())
