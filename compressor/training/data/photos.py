"""Photographs of a folder with index.jsonl: the fixed split into training and held-out, and questions about them.

Knows nothing of composed scenes. Answers keep the style of `questions`: the key word first, a full stop behind.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps

from compressor.errors import DataInvalid
from compressor.training.data.kinds import absent_kind, kind_of
from compressor.training.data.nouns import ASKED, NOUNS, mentioned
from compressor.training.data.questions import QA
from compressor.training.data.vocabulary import plural, with_article
from compressor.training.data.wordings import PLAIN_NAMING, worded

# A class has one photograph, so holding out files of `in_*` holds out classes.
HELD_OUT = {"in_": 250, "fl_": 250}
FOLDS = 5  # parts of the photographs that heads can be kept from
LABEL_CAPTIONS = ("a photo of {}", "a photo of {}", "{}", "a picture of {}", "an image of {}")  # one is twice as likely
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


def opened(path: Path) -> Image.Image:
    """The picture in a file as RGB, the right way up. Raises DataInvalid."""
    try:
        with Image.open(path) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, Image.DecompressionBombError) as error:
        raise DataInvalid(f"{path}: {error}") from error


def read(folder: Path) -> Photos:
    """Reads index.jsonl: a line a photograph with `file` (in images/) and `label` or `captions`. Raises DataInvalid.

    The split depends on the names of the files alone: of each prefix in HELD_OUT those with the smallest SHA-256.
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
        held_out.update(sorted(files, key=lambda file: hashlib.sha256(file.encode()).digest())[:count])
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
    return _about_label(photo.label, rng, others) if photo.label else _about_captions(photo, rng, others)


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
    # Half of the answers are "Yes.": what has no kind is asked for one in vain only, and so for its name more often.
    if rng.random() < (0.5 if there or not absent else 0.75):
        found.append(QA(_exists(label, rng), "Yes.", "photo_exists"))
    else:
        words = set(label.lower().split())
        labels = [photo.label for photo in others if photo.label and not words & set(photo.label.lower().split())]
        if labels:
            found.append(QA(_exists(rng.choice(labels), rng), "No.", "photo_exists"))
    if there and rng.random() < 0.5:
        found.append(QA(_exists(there, rng), "Yes.", "photo_exists"))
    elif absent and (there or rng.random() < 0.5):
        found.append(QA(_exists(absent, rng), "No.", "photo_exists"))
    return found


def _about_captions(photo: Photo, rng: random.Random, others: Sequence[Photo]) -> list[QA]:
    text = rng.choice(photo.captions)
    found = [QA(worded("caption", rng), f"{text[0].upper()}{text[1:].rstrip('.')}.", "photo_caption")]
    per_caption = [mentioned(each) for each in photo.captions]
    said = [noun for noun in sorted(ASKED) if sum(noun in nouns for nouns in per_caption) * 2 > len(per_caption)]
    if rng.random() < 0.5:
        if said:
            found.append(QA(_exists(rng.choice(said), rng), "Yes.", "photo_exists"))
        return found
    possible = set().union(*(NOUNS[noun].compatible for nouns in per_caption for noun in nouns))
    # Drawn from another photograph, so that a noun is asked for in vain about as often as it is found.
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
