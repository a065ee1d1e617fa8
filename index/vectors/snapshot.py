"""Snapshot files of vector indexes: a payload, then a footer that says what it is and proves it
whole.

Knows nothing of what is in the payload. The footer comes last because it is what makes the file
complete, and because FAISS can then read (or memory-map) the payload from the file's start.
docs/storage.md describes every byte.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from index.errors import IndexDamaged, StoreError, StoreFull
from index.files import NO_SPACE, Take, sync_folder, write_whole
from index.ports import TokenStore, VectorIndex

MAGIC = b"PRCSNAP1"  # the last byte is the version
_TAIL = struct.Struct("<I8s8s")  # bytes of the description, its checksum, magic
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class SnapshotDescription:
    """What a snapshot holds."""

    engine: str  # which adapter wrote it
    embedding_size: int  # E
    vectors: int  # M
    payload_bytes: int
    payload_blake2b: str  # hex, 16 bytes
    settings: Mapping[str, int]  # whatever else the engine wants back

    def require(self, engine: str) -> None:
        """Raises IndexDamaged unless `engine` wrote it."""
        if self.engine != engine:
            raise IndexDamaged(
                f"the snapshot was written by engine {self.engine!r}, not {engine!r}"
            )


def write_snapshot(
    path: Path,
    *,
    engine: str,
    embedding_size: int,
    vectors: int,
    write: Callable[[Take], object],
    settings: Mapping[str, int] | None = None,
) -> SnapshotDescription:
    """Writes payload (through `write`) and footer beside `path`, then renames: `path` is whole or
    not there.

    Raises StoreFull when there is no space, else StoreError.
    """
    digest = hashlib.blake2b(digest_size=16)
    written = 0

    def describe() -> SnapshotDescription:
        return SnapshotDescription(
            engine, embedding_size, vectors, written, digest.hexdigest(), settings or {}
        )

    def write_all(take: Take) -> None:
        def take_payload(block: bytes) -> int:
            nonlocal written
            digest.update(block)
            written += len(block)
            return take(block)

        write(take_payload)
        text = json.dumps(asdict(describe())).encode()
        take(text + _TAIL.pack(len(text), _checksum(text), MAGIC))

    try:
        write_whole(path, write_all)
    except OSError as error:
        if error.errno in NO_SPACE:
            raise StoreFull("no space left for the snapshot of the vector index") from error
        raise StoreError(
            f"the snapshot of the vector index cannot be written: {error.strerror}"
        ) from error
    return describe()


def read_description(path: Path, *, embedding_size: int) -> SnapshotDescription:
    """The description of a snapshot, once every byte of the file is proved right. Raises IndexDamaged."""
    description = verify_snapshot(path)
    if description.embedding_size != embedding_size:
        raise IndexDamaged(f"snapshot {path.name} is of another embedding size")
    return description


def verify_snapshot(path: Path) -> SnapshotDescription:
    """`read_description` of a snapshot of any embedding size. Raises IndexDamaged."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL.size))
            text_bytes, text_checksum, magic = _TAIL.unpack(file.read())
            if magic != MAGIC:
                raise IndexDamaged(f"not a snapshot of this version: {path.name}")
            file.seek(size - _TAIL.size - text_bytes)
            text = file.read(text_bytes)
            if _checksum(text) != text_checksum:
                raise IndexDamaged(f"the description of snapshot {path.name} is damaged")
            description = SnapshotDescription(**json.loads(text))
            if description.payload_bytes + text_bytes + _TAIL.size != size:
                raise IndexDamaged(f"snapshot {path.name} has the wrong length")
            file.seek(0)
            digest, left = hashlib.blake2b(digest_size=16), description.payload_bytes
            while left:
                block = file.read(min(left, _BLOCK_BYTES))
                digest.update(block)
                left -= len(block)
    except (OSError, struct.error, ValueError, TypeError) as error:
        raise IndexDamaged(f"snapshot {path.name} cannot be read") from error
    if digest.hexdigest() != description.payload_blake2b:
        raise IndexDamaged(f"the payload of snapshot {path.name} is damaged")
    return description


def _checksum(text: bytes) -> bytes:
    return hashlib.blake2b(text, digest_size=8).digest()


# The snapshots of a library's vector index: which file fits the store as it is now. A name says all
# that decides whether a snapshot may be used: the store it was taken from and the last row that
# store had given. A store whose last row is lower is an older copy of itself, whose coming rows
# would mean other images: such a snapshot is deleted before the first of those rows is given.


log = logging.getLogger(__name__)

SAVE_FROM_VECTORS = (
    30_000  # fewer are read from the store in half a second, and need no second copy on the disk
)
SAVE_AFTER_CHANGES = 50_000  # read from the store in some seconds


class SnapshotManager:
    """Snapshots `vectors-ENGINE-STORE_ID-LAST_ROW.snapshot` in the data folder. Used under the
    library's write lock.
    """

    def __init__(self, folder: Path, engine: str, former_names: Sequence[str] = ()) -> None:
        """Snapshots that carry one of the engine's `former_names` are loaded too."""
        self._folder = folder
        self._engine = engine
        self._readable_names = {engine, *former_names}
        self._saved = False  # whether there is a snapshot
        self._changes = 0  # since then

    def load(self, index: VectorIndex, store: TokenStore) -> None:
        """Loads the newest snapshot that fits the store, if there is one; the caller catches up
        from the store.
        """
        for path in self._fitting(store):
            try:
                index.load(path)
            except IndexDamaged as error:
                log.warning("%s; the index is rebuilt from the store", error)
            else:
                self._saved = True
                return

    def changed(self, count: int, index: VectorIndex, store: TokenStore) -> None:
        """Notes that the index changed, and saves it once a restart would have much to catch up with."""
        self._changes += count
        if self._changes >= max(SAVE_AFTER_CHANGES, len(index) // 2):
            self.save(index, store)

    def save(self, index: VectorIndex, store: TokenStore) -> None:
        """Writes a snapshot if anything changed; failing to is no loss, the store is the truth."""
        if (self._saved and not self._changes) or len(index) < SAVE_FROM_VECTORS:
            return
        try:
            path = (
                self._folder
                / f"vectors-{self._engine}-{store.store_id}-{store.last_row()}.snapshot"
            )
            index.save(path)
            self._saved, self._changes = True, 0
            for other in self._folder.glob("vectors-*"):
                if other != path:
                    other.unlink(missing_ok=True)
        except (StoreError, OSError) as error:
            log.warning("%s; the index will be rebuilt from the store", error)

    def size_bytes(self) -> int:
        """Of all snapshots."""
        return sum(path.stat().st_size for path in self._folder.glob("vectors-*"))

    def _fitting(self, store: TokenStore) -> list[Path]:
        """This engine's snapshots of this store, the newest first; those that fit no engine are deleted."""
        pattern = re.compile(rf"vectors-([\w-]+)-{store.store_id}-(\d+)\.snapshot")
        last_row = store.last_row()
        fitting, deleted = [], False
        for path in self._folder.glob("vectors-*"):
            match = pattern.fullmatch(path.name)
            if match is None or int(match[2]) > last_row:
                path.unlink(missing_ok=True)
                deleted = True
            elif match[1] in self._readable_names:
                fitting.append((int(match[2]), path))
        if deleted:
            sync_folder(self._folder)
        return [path for _, path in sorted(fitting, reverse=True)]
