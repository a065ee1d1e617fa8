"""Writes an export; docs/storage.md describes it."""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from index.codecs.registry import CodecRegistry, state_suffix
from index.codecs.scalar import SELF_CONTAINED
from index.data_folder import COLLECTIONS, check_library, check_target
from index.errors import RecordDamaged
from index.exports.shards import ShardWriter
from index.files import store_errors, sync_folder, write_bytes
from index.library import is_original
from index.manifest import body_checksum, describe_all
from index.model_info import FOLDER as MODEL_INFO_FOLDER
from index.model_info import ModelInfoStore
from index.ports import OpenStore, Record, TokenStore
from index.registry import StorePlace, store_engine

log = logging.getLogger(__name__)

MANIFEST = "manifest.json"
FORMAT = "precis-export"
VERSION = 1
CODECS = "codecs"
_SHARD_BYTES = 64 << 20  # of records and pictures, after which the next shard begins
_SHARD_IMAGES = 10_000
_BLOCK_RECORDS = 256  # between two reports of progress


@dataclass(frozen=True)
class ExportProgress:
    """Progress of an export, in images."""

    exported: int
    damaged: int  # not exported, or without their picture: their bytes are wrong
    total: int  # of the libraries opened so far


def export_libraries(
    place: StorePlace, target: Path, *, originals: bool
) -> Iterator[ExportProgress]:
    """Writes the library at a place, and its collections, into the new folder `target`.

    Yields now and then. All or nothing: after an error, and if the generator is not run to its
    end, there is no `target`. Thumbnails are exported; of an image whose original was kept, no
    picture unless `originals`. The libraries must not be open elsewhere in this data folder. Raises
    InvalidTarget, StoreError, CodecError.
    """
    engine = store_engine(place.setting)
    if engine.in_folder:
        check_library(place.folder)
    check_target(target, place.folder)
    unfinished = target.with_name(target.name + ".unfinished")
    with store_errors("the export cannot be written"):
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        try:
            export = _Export(unfinished, originals)
            with closing(engine.collections(place)) as collections:
                names = collections.names()
            for name in (None, *names):
                folder = place.folder
                if name is not None:
                    folder = folder / COLLECTIONS / name
                opened = engine.open(replace(place, folder=folder, collection=name))
                with closing(opened.store):
                    yield from export.add(name, opened, folder)
            # Last: a folder with a manifest is a whole export.
            export.write_manifest()
            unfinished.replace(target)
            sync_folder(target.parent)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise


class _Shards:
    """The shards of one library; the next begins when one is full."""

    def __init__(self, folder: Path, collection: str | None) -> None:
        self.finished: list[dict[str, object]] = []  # as the manifest has them
        self._folder = folder
        self._prefix = "" if collection is None else f"{COLLECTIONS}/{collection}/"
        self._name = ""
        self._shard: ShardWriter | None = None

    def add(self, record: Record) -> None:
        """Writes a record, with its picture. Raises OSError, LibraryError."""
        if self._shard is None:
            self._name = f"{self._prefix}images-{len(self.finished):05}.tar"
            path = self._folder / self._name
            path.parent.mkdir(parents=True, exist_ok=True)
            self._shard = ShardWriter(path)
        shard = self._shard
        shard.add(record)
        if shard.images == _SHARD_IMAGES or shard.size_bytes >= _SHARD_BYTES:
            self.close()

    def close(self) -> None:
        """Ends the shard that is being written. Raises OSError."""
        if self._shard is not None:
            self._shard.close()
            self.finished.append({"file": self._name, "images": self._shard.images})
            self._shard = None


class _Export:
    def __init__(self, folder: Path, originals: bool) -> None:
        self._folder = folder
        self._originals = originals
        self._libraries: list[dict[str, object]] = []
        self._images: Counter[str] = Counter()  # by fingerprint
        self._models: dict[str, dict[str, object]] = {}
        self._damaged = 0
        self._total = 0

    def add(
        self, collection: str | None, opened: OpenStore, library: Path
    ) -> Iterator[ExportProgress]:
        """Writes the shards of a library, and what is needed to read its records."""
        self._total += opened.store.sizes().images
        codecs: set[str] = set()
        fingerprints: set[str] = set()
        with closing(_Shards(self._folder, collection)) as shards:
            for number, record in enumerate(self._records(opened.store), start=1):
                shards.add(record)
                self._images[record.fingerprint] += 1
                codecs.add(record.codec)
                fingerprints.add(record.fingerprint)
                if number % _BLOCK_RECORDS == 0:
                    yield self._progress()
        # After the records: the state of a codec is kept before the first record that needs it.
        opened.exchange_files()
        self._libraries.append(
            {
                "collection": collection,
                "codecs": self._copy_codecs(library, codecs),
                "shards": shards.finished,
            }
        )
        self._note_models(library, fingerprints)
        yield self._progress()

    def _progress(self) -> ExportProgress:
        return ExportProgress(self._images.total(), self._damaged, self._total)

    def _records(self, store: TokenStore) -> Iterator[Record]:
        """The records of a store with their pictures, one at a time: originals may be large."""
        after_row = 0
        while True:
            try:
                for _, record in store.scan(after_row=after_row):
                    whole = self._with_picture(store, record)
                    if whole is not None:
                        yield whole
            except RecordDamaged as error:
                self._warn(error.id, "not exported", error)
                # Without its row there is no place to resume.
                if error.row is None:
                    raise
                after_row = error.row
            else:
                return

    def _with_picture(self, store: TokenStore, record: Record) -> Record | None:
        """The record with the picture to export; None if it has been deleted meanwhile."""
        try:
            (item,) = store.get_many([record.id], with_picture=True)
        except RecordDamaged as error:
            self._warn(record.id, "exported without its picture", error)
            return record
        if item is None:
            return None
        _, record = item
        picture = record.picture
        if picture is None or self._originals or not is_original(record, picture):
            return record
        return replace(record, picture=None)

    def _warn(self, id: str | None, outcome: str, error: RecordDamaged) -> None:
        log.warning("image %s is %s: %s", id or "without an id", outcome, error)
        self._damaged += 1

    def _copy_codecs(self, library: Path, names: set[str]) -> list[str]:
        """Copies the trained state of the codecs, and returns the files."""
        registry = CodecRegistry(library / CODECS)
        files = []
        for name in sorted(names - SELF_CONTAINED.keys()):
            registry.by_name(name)  # raises CodecError for what cannot be read
            file = f"{CODECS}/{name}{state_suffix(name)}"
            files.append(file)
            copy = self._folder / file
            # Collections with one codec have the same state: the name contains its hash.
            if not copy.exists():
                copy.parent.mkdir(exist_ok=True)
                write_bytes(copy, (library / file).read_bytes())
        return files

    def _note_models(self, library: Path, fingerprints: set[str]) -> None:
        infos = ModelInfoStore(library / MODEL_INFO_FOLDER)
        for fingerprint in fingerprints:
            info = infos.get(fingerprint)
            if info is not None:
                described: dict[str, object] = {"model": info.model, "mode": info.mode}
                self._models[fingerprint] = described

    def write_manifest(self) -> None:
        """Describes all that was written."""
        unknown = {"model": None, "mode": None}
        models = [
            {
                "fingerprint": fingerprint,
                "images": images,
                **self._models.get(fingerprint, unknown),
            }
            for fingerprint, images in sorted(self._images.items())
        ]
        body: dict[str, object] = {
            "format": FORMAT,
            "version": VERSION,
            "created_at_ms": time.time_ns() // 1_000_000,
            "models": models,
            "libraries": self._libraries,
            "files": describe_all(self._folder, MANIFEST),
        }
        sealed = {**body, "blake2b": body_checksum(body)}
        text = json.dumps(sealed, indent=1)
        write_bytes(self._folder / MANIFEST, text.encode())
