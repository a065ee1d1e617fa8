"""Photographs of a folder with index.jsonl: their fixed split, and questions about them.

Answers keep the style of `questions`: the key word first, a full stop behind.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image

from compressor.default_model.data.english import plural, with_article
from compressor.default_model.data.questions import PLAIN_NAMING, capitalised, worded
from compressor.errors import DataInvalid
from compressor.training.sample import QA, opened

# Concrete nouns of captions, and which of them may mean the same object: what one caption calls a
# child, another calls a boy, so "Is there a boy?" has no clear "no" beside a child. A line is a
# group of nouns that may all be said of one object; "word/plural/synonym" are forms of one noun. A
# noun may stand in several groups. The first form is asked for.
_GROUPS = """
man/men/guy/guys/male, person/people/adult/adults/someone/crowd/group/player/players/\
climber/hiker/rider
woman/women/lady/ladies/female, person
boy/boys, child/children/kid/kids/toddler/toddlers, person, man, baby/babies/infant
girl/girls, child, person, woman, baby
dog/dogs/puppy/puppies/greyhound/greyhounds/poodle/retriever/terrier, animal/animals
horse/horses/pony, animal
cat/cats/kitten, animal
bird/birds/seagull/seagulls/duck/ducks/geese, animal
cow/cows/bull, animal
ball/balls/football/basketball/volleyball/soccer/baseball/tennis, toy/toys
frisbee/frisbees/disc, toy
toy, stick/sticks/branch, rope
bicycle/bicycles/bike/bikes/bicyclist/cyclist/bmx, motorcycle/motorcycles/motorbike/motocross, \
vehicle/vehicles
car/cars/van/taxi, vehicle, truck/trucks/suv/jeep
bus/buses, vehicle
train/trains, vehicle
boat/boats/canoe/kayak/kayaks/kayaker/raft/sailboat/ship/rowboat
skateboard/skateboarder/skateboarding/skateboards, surfboard/surfer/surfing/surf/wakeboard, \
snowboard/snowboarder/board
hat/hats/cap/caps/sunhat/beanie, helmet/helmets
shirt/shirts/t-shirt/tee, jacket/jackets/coat/vest, sweater/sweatshirt, dress/gown/skirt, \
uniform/suit/costume/outfit
backpack/backpacks/bag/bags/purse/luggage
glasses, sunglasses/goggles
bench/benches, chair/chairs/seat/seats/couch/sofa
table/tables/desk/counter
tree/trees/forest/woods/wooded/branch
rock/rocks/rocky/boulder/boulders/stone/stones, mountain/mountains/mountainside/cliff/hill/\
hills/hillside/slope
snow/snowy/ski/skis/skier/skiing/snowboarder/sled/ice/snowboard/winter
beach/beaches/sand/sandy/shore/shoreline
fence/fences/railing/gate
swing/swings/swinging, slide/slides/playground
building/buildings/house/houses/skyscraper/city/store/shop/street
bridge/bridges, fountain/fountains, umbrella/umbrellas, tent/tents, \
camera/cameras/photographer/photo/picture
guitar/guitars/guitarist, drum/drums/drummer, flower/flowers, flag/flags, leash/leashes, \
trampoline/trampolines
pool/pools/poolside/swimming
"""
# Not asked for: too general for a plain yes or no, not countable, or said of the photograph itself.
_NOT_ASKED = frozenset(
    {
        "sweater", "snow", "glasses", "sunglasses", "camera", "photo", "stick", "rope", "toy",
        "uniform",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Noun:
    """A noun and what else may be called so."""

    forms: frozenset[str]  # words of captions that speak of it
    # Nouns whose presence is open once this one is mentioned; itself among them.
    compatible: frozenset[str]


def mentioned(caption: str) -> set[str]:
    """The nouns (keys of NOUNS) a caption speaks of."""
    nouns: set[str] = set()
    for word in re.findall(r"[a-z]+(?:-[a-z]+)?", caption.lower()):
        nouns.update(_by_form().get(word, ()))
    return nouns


def _parsed() -> dict[str, Noun]:
    forms: dict[str, set[str]] = {}
    compatible: dict[str, set[str]] = {}
    for line in _GROUPS.strip().splitlines():
        group = [entry.strip().split("/") for entry in line.split(",")]
        asked = {entry[0] for entry in group}
        for entry in group:
            forms.setdefault(entry[0], set()).update(entry)
            compatible.setdefault(entry[0], set()).update(asked)
    return {
        noun: Noun(frozenset(forms[noun]), frozenset(compatible[noun]))
        for noun in forms
    }


NOUNS = _parsed()
ASKED = frozenset(NOUNS) - _NOT_ASKED


@cache
def _by_form() -> dict[str, tuple[str, ...]]:
    table: dict[str, list[str]] = {}
    for key, noun in NOUNS.items():
        for form in noun.forms:
            table.setdefault(form, []).append(key)
    return {form: tuple(keys) for form, keys in table.items()}


# Hypernyms: everyday words for the animals among ImageNet's classes (dog, cat, bird). kinds.tsv has
# a class and its hypernym, "-" for an animal that has none; other classes are no animals.
_NONE = "-"
# Of the hypernyms asked for in vain: captions of photographs speak of dogs more than of all others.
_DOG_SHARE = 0.3
_SIMILAR = (
    {"dog", "wolf", "fox"},
    {"fish", "shark", "whale"},
    {"lizard", "snake"},
)


@cache
def _hypernyms() -> dict[str, str]:
    lines = (
        Path(__file__).with_name("kinds.tsv").read_text(encoding="utf-8").splitlines()
    )
    return dict(line.split("\t") for line in lines)


def hypernym(label: str) -> str | None:
    """ "dog" for "beagle"; None for a label that has none."""
    word = _hypernyms().get(label, _NONE)
    return None if word == _NONE else word


def is_animal(label: str) -> bool:
    """Whether the label's object is an animal."""
    return label in _hypernyms()


def absent_hypernym(label: str, rng: random.Random) -> str | None:
    """A hypernym that the label's object clearly does not have; None where that is not certain."""
    own = _hypernyms().get(label)
    if own == _NONE:
        return None
    ruled_out = {own, *label.lower().split()}
    for group in _SIMILAR:
        if own in group:
            ruled_out |= group
    possible = sorted(set(_hypernyms().values()) - {_NONE} - ruled_out)
    if "dog" in possible and rng.random() < _DOG_SHARE:
        return "dog"
    return rng.choice(possible)


# A class has one photograph, so holding out files of `in_*` holds out classes.
HELD_OUT = {"in_": 250, "fl_": 250}
FOLDS = 5  # of the photographs, for cross-fitting
# The most common form is twice as likely.
LABEL_CAPTIONS = (
    "a photo of {}",
    "a photo of {}",
    "{}",
    "a picture of {}",
    "an image of {}",
)
_PLAIN_SHARE = 0.1  # of the naming questions are the plain one, word for word
_PLURALS = frozenset(
    {
        "binoculars", "sunglasses", "glasses", "bars", "jeans", "pants", "shorts", "trousers",
        "scissors", "maracas", "tights",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Photo:
    """A photograph with the name of its main object, or with human captions."""

    path: Path
    label: str | None
    captions: tuple[str, ...]

    @property
    def fold(self) -> int:
        """Its number in 0..FOLDS-1, from the name of its file."""
        return hashlib.sha256(self.path.name.encode()).digest()[-1] % FOLDS

    def open(self) -> Image.Image:
        """The photograph as RGB, the right way up. Raises DataInvalid."""
        return opened(self.path)


@dataclass(frozen=True)
class Photos:
    """The photographs of a folder, split."""

    training: tuple[Photo, ...]
    held_out: tuple[Photo, ...]

    @property
    def held_out_labels(self) -> list[str]:
        """The names of the classes that training must not see."""
        return [photo.label for photo in self.held_out if photo.label]


def read(folder: Path, index_name: str = "index.jsonl") -> Photos:
    """Reads the index: a line a photograph with `file` (in images/) and `label` or `captions`.

    The split depends on the names of the files alone: of each prefix in HELD_OUT those with the
    smallest SHA-256. Raises DataInvalid.
    """
    index = folder / index_name
    try:
        lines = index.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataInvalid(f"{index}: {error}") from error
    photos: dict[str, Photo] = {}
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
            photos[entry["file"]] = _photo(entry, folder)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataInvalid(f"{index}, line {number}: {error}") from error
    # By hash of the name: the order of the index and the content of the files do not matter.
    held_out: set[str] = set()
    for prefix, count in HELD_OUT.items():
        files = [file for file in photos if file.startswith(prefix)]
        files.sort(key=_digest)
        held_out.update(files[:count])
    ordered = sorted(photos.items())
    return Photos(
        tuple(photo for file, photo in ordered if file not in held_out),
        tuple(photo for file, photo in ordered if file in held_out),
    )


def _photo(entry: Any, folder: Path) -> Photo:
    captions = tuple(filter(None, map(_tidied, entry.get("captions", ()))))
    label = entry.get("label")
    if not captions and not label:
        raise ValueError("neither a label nor a caption")
    return Photo(folder / "images" / entry["file"], label, captions)


def _digest(file: str) -> bytes:
    return hashlib.sha256(file.encode()).digest()


def named(label: str) -> str:
    """A label with the article it needs: "a golden retriever", "an ox", "sunglasses", "jeans"."""
    if label.split()[-1].lower() in _PLURALS:
        return label
    return with_article(label)


def questions(photo: Photo, rng: random.Random, others: Sequence[Photo]) -> list[QA]:
    """Questions about one photograph; `others` give names and nouns of absent objects."""
    if photo.label:
        return _about_label(photo.label, rng, others)
    return _about_captions(photo, rng, others)


def caption(photo: Photo, rng: random.Random) -> str:
    """A short caption for the contrastive loss."""
    if photo.label:
        return rng.choice(LABEL_CAPTIONS).format(named(photo.label))
    return rng.choice(photo.captions)


def _about_label(label: str, rng: random.Random, others: Sequence[Photo]) -> list[QA]:
    wording = PLAIN_NAMING if rng.random() < _PLAIN_SHARE else worded("naming", rng)
    answer = named(label)
    asked = [QA(wording, f"{capitalised(answer)}.", "photo_naming")]
    own, absent = hypernym(label), absent_hypernym(label, rng)
    # Half of the answers are "Yes.": an object without a hypernym is only asked for one in vain,
    # and so it is asked for its name more often.
    if rng.random() < (0.5 if own or not absent else 0.75):
        asked.append(QA(_exists(label, rng), "Yes.", "photo_exists"))
    else:
        labels = _unrelated_labels(label, others)
        if labels:
            asked.append(QA(_exists(rng.choice(labels), rng), "No.", "photo_exists"))
    if own and rng.random() < 0.5:
        asked.append(QA(_exists(own, rng), "Yes.", "photo_exists"))
    elif absent and (own or rng.random() < 0.5):
        asked.append(QA(_exists(absent, rng), "No.", "photo_exists"))
    return asked


def _unrelated_labels(label: str, others: Sequence[Photo]) -> list[str]:
    """Labels without a word of this one."""
    # "Is there a sea lion?" has no clear "no" beside a lion.
    words = set(label.lower().split())
    labels = [photo.label for photo in others if photo.label]
    return [other for other in labels if not words & set(other.lower().split())]


def _about_captions(
    photo: Photo, rng: random.Random, others: Sequence[Photo]
) -> list[QA]:
    text = rng.choice(photo.captions)
    answer = f"{capitalised(text).rstrip('.')}."
    asked = [QA(worded("caption", rng), answer, "photo_caption")]
    per_caption = [mentioned(caption) for caption in photo.captions]
    mentions = Counter(noun for nouns in per_caption for noun in nouns)
    if rng.random() < 0.5:
        # A single caption's noun may be wrong: most of the captions must have it.
        certain = [
            noun for noun in sorted(ASKED) if mentions[noun] * 2 > len(per_caption)
        ]
        if certain:
            asked.append(QA(_exists(rng.choice(certain), rng), "Yes.", "photo_exists"))
        return asked
    possible: set[str] = set()
    for noun in mentions:
        possible |= NOUNS[noun].compatible
    # Drawn from another photograph, so that a noun is asked for in vain about as often as it is
    # there.
    for other in rng.sample(others, min(20, len(others))):
        nouns = set().union(*map(mentioned, other.captions))
        absent = sorted(ASKED & nouns - possible)
        if absent:
            asked.append(QA(_exists(rng.choice(absent), rng), "No.", "photo_exists"))
            break
    return asked


def _exists(noun: str, rng: random.Random) -> str:
    if named(noun) == noun:
        return f"Are there {noun} in the image?"
    return worded("exists", rng, n=with_article(noun), p=plural(noun))


def _tidied(text: str) -> str:
    """Captions come with spaces before punctuation and apostrophes."""
    text = re.sub(r"\s+([.,;:!?'])", r"\1", " ".join(str(text).split()))
    return text.strip(" .;,")
