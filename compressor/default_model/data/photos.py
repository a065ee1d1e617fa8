"""Photographs of a folder with index.jsonl, and their fixed split."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compressor.errors import DataInvalid

# A class has one photograph, so holding out files of `in_*` holds out classes.
HELD_OUT = {"in_": 250, "fl_": 250}


@dataclass(frozen=True)
class Photo:
    """A photograph with the name of its main object, or with human captions."""

    path: Path
    label: str | None
    captions: tuple[str, ...]


@dataclass(frozen=True)
class Photos:
    """The photographs of a folder, split."""

    training: tuple[Photo, ...]
    held_out: tuple[Photo, ...]


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


def _tidied(text: str) -> str:
    """Captions come with spaces before punctuation and apostrophes."""
    text = re.sub(r"\s+([.,;:!?'])", r"\1", " ".join(str(text).split()))
    return text.strip(" .;,")
