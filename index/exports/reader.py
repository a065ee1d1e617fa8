"""Reads an export and puts its images into libraries; docs/storage.md describes the format."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from index.errors import ExportDamaged, WrongFingerprint
from index.exports.shards import read_shard
from index.exports.writer import CODECS, FORMAT, MANIFEST, VERSION
from index.library import Library
from index.manifest import FileList, body_checksum, describe
from index.ports import Record

# The names that an export has: none leads out of its folder.
_SHARD = re.compile(r"(collections/[a-z0-9][a-z0-9_-]{0,62}/)?images-\d{5,}\.tar")
_CODEC = re.compile(rf"{CODECS}/\w[\w@-]*\.(faiss|npz)")
_SHORT_DIGITS = 12  # of a fingerprint, in a message
_BATCH_IMAGES = 256  # a transaction
_BATCH_PICTURE_BYTES = 16 << 20


@dataclass(frozen=True)
class Shard:
    """A file of images."""

    file: str  # relative to the export
    images: int


@dataclass(frozen=True)
class ExportedLibrary:
    """The files of one library."""

    collection: str | None  # None for the library without a name
    codecs: list[str]  # of the trained state that its records need
    shards: list[Shard]


@dataclass(frozen=True)
class ExportedModel:
    """A model that made images of an export."""

    fingerprint: str
    images: int
    model: str | None  # name of the base model, if the library knew it

    def __str__(self) -> str:
        name = self.model or "a model without a name"
        return f"{name} ({self.fingerprint[:_SHORT_DIGITS]})"


class Export:
    """An export whose manifest is right; its other files are checked when they are read."""

    def __init__(self, folder: Path) -> None:
        """Raises ExportDamaged, also for what is cut off half-way, or no export."""
        self._folder = folder
        try:
            body = json.loads((folder / MANIFEST).read_bytes())
            expected = body.pop("blake2b")
            if body["format"] != FORMAT:
                raise ExportDamaged(f"{folder.name} is no export of Précis")
            if body["version"] != VERSION:
                version = body["version"]
                raise ExportDamaged(f"the export has version {version}, not {VERSION}")
            if body_checksum(body) != expected:
                raise ExportDamaged("the manifest of the export is damaged")
            self._files: FileList = body["files"]
            self.models = [_model(entry) for entry in body["models"]]
            self.libraries = [_library(entry) for entry in body["libraries"]]
        except FileNotFoundError as error:
            raise ExportDamaged(
                f"{folder} has no {MANIFEST}: it is not an export, or the export was cut off"
            ) from error
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ExportDamaged("the manifest of the export cannot be read") from error

    def check_model(self, fingerprint: str) -> None:
        """Raises WrongFingerprint if the export has images, but none of this model."""
        if not self.models or self.images_of(fingerprint):
            return
        others = ", ".join(map(str, self.models))
        raise WrongFingerprint(
            f"the images of the export were made by {others}, not by the model of this library"
            f" ({fingerprint[:_SHORT_DIGITS]}); nothing was imported"
        )

    def images_of(self, fingerprint: str) -> int:
        """How many images of the export this model made."""
        return sum(
            model.images for model in self.models if model.fingerprint == fingerprint
        )

    def codec_states(self, library: ExportedLibrary) -> list[Path]:
        """The files of trained codecs, checked. Raises ExportDamaged."""
        for name in library.codecs:
            self._check(name)
        return [self._folder / name for name in library.codecs]

    def records(self, shard: Shard) -> Iterator[Record]:
        """The records of a shard, with pictures, once all of its bytes have been checked.

        Raises ExportDamaged.
        """
        self._check(shard.file)
        return read_shard(self._folder / shard.file)

    def _check(self, name: str) -> None:
        try:
            is_right = describe(self._folder / name) == self._files.get(name)
        except FileNotFoundError as error:
            raise ExportDamaged(f"{name} is missing in the export") from error
        except OSError as error:
            raise ExportDamaged(f"{name} cannot be read: {error.strerror}") from error
        if not is_right:
            raise ExportDamaged(f"{name} in the export is damaged")


def _model(entry: Mapping[str, Any]) -> ExportedModel:
    return ExportedModel(entry["fingerprint"], entry["images"], entry["model"])


def _library(entry: Mapping[str, Any]) -> ExportedLibrary:
    shards = [Shard(shard["file"], shard["images"]) for shard in entry["shards"]]
    for shard in shards:
        _check_name(_SHARD, shard.file)
    for name in entry["codecs"]:
        _check_name(_CODEC, name)
    return ExportedLibrary(entry["collection"], entry["codecs"], shards)


def _check_name(pattern: re.Pattern[str], name: str) -> None:
    if not pattern.fullmatch(name):
        raise ExportDamaged(f"no export has a file called {name!r}")


@dataclass(frozen=True)
class ImportedBatch:
    """What became of one batch of records."""

    created: int
    existing: int  # the library had them already
    of_other_models: int  # passed over


def import_records(
    library: Library, records: Iterable[Record]
) -> Iterator[ImportedBatch]:
    """Puts records into a library, one transaction a batch; yields after each.

    May be interrupted and started again: what is there already is passed over. Raises LibraryError.
    """
    for batch in _batches(records):
        ours = [record for record in batch if record.fingerprint == library.fingerprint]
        created = sum(library.put_records(ours))
        yield ImportedBatch(created, len(ours) - created, len(batch) - len(ours))


def _batches(records: Iterable[Record]) -> Iterator[list[Record]]:
    batch: list[Record] = []
    picture_bytes = 0
    for record in records:
        batch.append(record)
        if record.picture is not None:
            picture_bytes += len(record.picture.data)
        if len(batch) == _BATCH_IMAGES or picture_bytes >= _BATCH_PICTURE_BYTES:
            yield batch
            batch, picture_bytes = [], 0
    if batch:
        yield batch
