"""Photographs of a folder with index.jsonl: the fixed split into training and held-out, and
questions about them.

Knows nothing of composed scenes. Answers keep the style of `questions`: the key word first, a full
stop behind.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from PIL import Image

from compressor.default_model.data.english import plural, with_article
from compressor.default_model.data.questions import PLAIN_NAMING, worded
from compressor.errors import DataInvalid
from compressor.training.sample import QA, opened

# Concrete nouns that captions of photographs speak of, and which of them may mean the same thing.
#  Used to ask "Is there a dog?" with care: what one caption calls a child, another calls a boy.


# One line a group of nouns that may all be said of one thing; "word/plural/synonym" are forms of
# one noun. A noun may stand in several groups. The first form is asked for.
_GROUPS = """
man/men/guy/guys/male, person/people/adult/adults/someone/crowd/group/player/players/climber/hiker/rider
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
bicycle/bicycles/bike/bikes/bicyclist/cyclist/bmx, motorcycle/motorcycles/motorbike/motocross, vehicle/vehicles
car/cars/van/taxi, vehicle, truck/trucks/suv/jeep
bus/buses, vehicle
train/trains, vehicle
boat/boats/canoe/kayak/kayaks/kayaker/raft/sailboat/ship/rowboat
skateboard/skateboarder/skateboarding/skateboards, surfboard/surfer/surfing/surf/wakeboard, snowboard/snowboarder/board
hat/hats/cap/caps/sunhat/beanie, helmet/helmets
shirt/shirts/t-shirt/tee, jacket/jackets/coat/vest, sweater/sweatshirt, dress/gown/skirt, uniform/suit/costume/outfit
backpack/backpacks/bag/bags/purse/luggage
glasses, sunglasses/goggles
bench/benches, chair/chairs/seat/seats/couch/sofa
table/tables/desk/counter
tree/trees/forest/woods/wooded/branch
rock/rocks/rocky/boulder/boulders/stone/stones, mountain/mountains/mountainside/cliff/hill/hills/hillside/slope
snow/snowy/ski/skis/skier/skiing/snowboarder/sled/ice/snowboard/winter
beach/beaches/sand/sandy/shore/shoreline
fence/fences/railing/gate
swing/swings/swinging, slide/slides/playground
building/buildings/house/houses/skyscraper/city/store/shop/street
bridge/bridges, fountain/fountains, umbrella/umbrellas, tent/tents, camera/cameras/photographer/photo/picture
guitar/guitars/guitarist, drum/drums/drummer, flower/flowers, flag/flags, leash/leashes, trampoline/trampolines
pool/pools/poolside/swimming
"""
# Not asked for: too general for a plain yes or no, no countable thing, or said of the photograph
# itself.
_NOT_ASKED = frozenset(
    {
        "sweater", "snow", "glasses", "sunglasses", "camera", "photo", "stick", "rope", "toy", "uniform",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Noun:
    """A noun and what else may be called so."""

    forms: frozenset[str]  # words of captions that speak of it
    compatible: frozenset[
        str
    ]  # nouns whose presence is open once this one is mentioned; itself among them


def mentioned(caption: str) -> set[str]:
    """The nouns (keys of NOUNS) a caption speaks of."""
    words = re.findall(r"[a-z]+(?:-[a-z]+)?", caption.lower())
    return {noun for word in words for noun in _by_form().get(word, ())}


def _parsed() -> dict[str, Noun]:
    forms: dict[str, set[str]] = {}
    compatible: dict[str, set[str]] = {}
    for line in _GROUPS.strip().splitlines():
        group = [entry.strip().split("/") for entry in line.split(",")]
        for entry in group:
            forms.setdefault(entry[0], set()).update(entry)
            compatible.setdefault(entry[0], set()).update(other[0] for other in group)
    return {noun: Noun(frozenset(forms[noun]), frozenset(compatible[noun])) for noun in forms}


NOUNS = _parsed()
ASKED = frozenset(NOUNS) - _NOT_ASKED


@cache
def _by_form() -> dict[str, tuple[str, ...]]:
    table: dict[str, list[str]] = {}
    for key, noun in NOUNS.items():
        for form in noun.forms:
            table.setdefault(form, []).append(key)
    return {form: tuple(keys) for form, keys in table.items()}


# Everyday words for the animals among ImageNet's classes: which are dogs, cats, birds.
#  kinds.tsv: a class and its kind, "-" for an animal of none of them; other classes are no
# animals.


_NONE = "-"
# of the kinds asked for in vain: captions of photographs speak of dogs more than of all others
_DOG_SHARE = 0.3
_ALIKE = ({"dog", "wolf", "fox"}, {"fish", "shark", "whale"}, {"lizard", "snake"})


@cache
def _kinds() -> dict[str, str]:
    lines = Path(__file__).with_name("kinds.tsv").read_text(encoding="utf-8").splitlines()
    return dict(line.split("\t") for line in lines)


def kind_of(label: str) -> str | None:
    """ "dog" for "beagle"; None for what is of no such kind."""
    kind = _kinds().get(label, _NONE)
    return None if kind == _NONE else kind


def absent_kind(label: str, rng: random.Random) -> str | None:
    """A kind that what the label names is surely not of; None where that cannot be told."""
    own = _kinds().get(label)
    if own == _NONE:
        return None
    ruled_out = {own}.union(*(group for group in _ALIKE if own in group)) | set(
        label.lower().split()
    )
    possible = sorted(set(_kinds().values()) - {_NONE} - ruled_out)
    return "dog" if "dog" in possible and rng.random() < _DOG_SHARE else rng.choice(possible)


# A class has one photograph, so holding out files of `in_*` holds out classes.
HELD_OUT = {"in_": 250, "fl_": 250}
FOLDS = 5  # parts of the photographs that heads can be kept from
LABEL_CAPTIONS = (
    "a photo of {}",
    "a photo of {}",
    "{}",
    "a picture of {}",
    "an image of {}",
)  # one is twice as likely
_PLAIN_SHARE = 0.1  # of the naming questions are the plain one, word for word
_PLURALS = frozenset(
    {
        "binoculars", "sunglasses", "glasses", "bars", "jeans", "pants", "shorts", "trousers", "scissors",
        "maracas", "tights",
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
        """Which of FOLDS parts it is in; its file's name decides."""
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


def read(folder: Path) -> Photos:
    """Reads index.jsonl: a line a photograph with `file` (in images/) and `label` or `captions`.
    Raises DataInvalid.

    The split depends on the names of the files alone: of each prefix in HELD_OUT those with the
    smallest SHA-256.
    """
    index = folder / "index.jsonl"
    photos: dict[str, Photo] = {}
    try:
        for number, line in enumerate(index.read_text(encoding="utf-8").splitlines(), 1):
            entry = json.loads(line)
            captions = tuple(filter(None, map(_tidied, entry.get("captions", ()))))
            label = entry.get("label")
            if not captions and not label:
                raise DataInvalid(f"{index}, line {number}: neither a label nor a caption")
            photos[entry["file"]] = Photo(folder / "images" / entry["file"], label, captions)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, DataInvalid):
            raise
        raise DataInvalid(f"{index}: {error!r}") from error
    held_out: set[str] = set()
    for prefix, count in HELD_OUT.items():
        files = [file for file in photos if file.startswith(prefix)]
        held_out.update(
            sorted(files, key=lambda file: hashlib.sha256(file.encode()).digest())[:count]
        )
    return Photos(
        tuple(photo for file, photo in sorted(photos.items()) if file not in held_out),
        tuple(photo for file, photo in sorted(photos.items()) if file in held_out),
    )


def named(label: str) -> str:
    """A label with the article it needs: "a golden retriever", "an ox", "sunglasses", "jeans"."""
    if label.split()[-1].lower() in _PLURALS:
        return label
    return with_article(label)


def questions(photo: Photo, rng: random.Random, others: Sequence[Photo]) -> list[QA]:
    """Questions about one photograph; `others` give names and nouns of things that are not in it."""
    return (
        _about_label(photo.label, rng, others)
        if photo.label
        else _about_captions(photo, rng, others)
    )


def caption(photo: Photo, rng: random.Random) -> str:
    """A short caption for the contrastive loss."""
    if photo.label:
        return rng.choice(LABEL_CAPTIONS).format(named(photo.label))
    return rng.choice(photo.captions)


def _about_label(label: str, rng: random.Random, others: Sequence[Photo]) -> list[QA]:
    wording = PLAIN_NAMING if rng.random() < _PLAIN_SHARE else worded("naming", rng)
    answer = named(label)
    found = [QA(wording, f"{answer[0].upper()}{answer[1:]}.", "photo_naming")]
    there, absent = kind_of(label), absent_kind(label, rng)
    # Half of the answers are "Yes.": what has no kind is asked for one in vain only, and so for its
    # name more often.
    if rng.random() < (0.5 if there or not absent else 0.75):
        found.append(QA(_exists(label, rng), "Yes.", "photo_exists"))
    else:
        words = set(label.lower().split())
        labels = [
            photo.label
            for photo in others
            if photo.label and not words & set(photo.label.lower().split())
        ]
        if labels:
            found.append(QA(_exists(rng.choice(labels), rng), "No.", "photo_exists"))
    if there and rng.random() < 0.5:
        found.append(QA(_exists(there, rng), "Yes.", "photo_exists"))
    elif absent and (there or rng.random() < 0.5):
        found.append(QA(_exists(absent, rng), "No.", "photo_exists"))
    return found


def _about_captions(photo: Photo, rng: random.Random, others: Sequence[Photo]) -> list[QA]:
    text = rng.choice(photo.captions)
    found = [
        QA(worded("caption", rng), f"{text[0].upper()}{text[1:].rstrip('.')}.", "photo_caption")
    ]
    per_caption = [mentioned(each) for each in photo.captions]
    said = [
        noun
        for noun in sorted(ASKED)
        if sum(noun in nouns for nouns in per_caption) * 2 > len(per_caption)
    ]
    if rng.random() < 0.5:
        if said:
            found.append(QA(_exists(rng.choice(said), rng), "Yes.", "photo_exists"))
        return found
    possible = set().union(*(NOUNS[noun].compatible for nouns in per_caption for noun in nouns))
    # Drawn from another photograph, so that a noun is asked for in vain about as often as it is
    # found.
    for other in rng.sample(others, min(20, len(others))):
        absent = sorted(ASKED & set().union(*map(mentioned, other.captions)) - possible)
        if absent:
            found.append(QA(_exists(rng.choice(absent), rng), "No.", "photo_exists"))
            break
    return found


def _exists(noun: str, rng: random.Random) -> str:
    if named(noun) == noun:
        return f"Are there {noun} in the image?"
    return worded("exists", rng, n=with_article(noun), p=plural(noun))


def _tidied(text: str) -> str:
    """Captions come with spaces before punctuation and apostrophes."""
    text = re.sub(r"\s+([.,;:!?'])", r"\1", " ".join(str(text).split()))
    return text.strip(" .;,")
