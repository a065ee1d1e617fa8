"""Snapshots of vector indexes: their file format, and which of them fits a store.

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
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import BinaryIO

from index.errors import IndexDamaged, StoreError
from index.files import Write, checksum, store_errors, sync_folder, write_whole
from index.ports import TokenStore, VectorIndex

MAGIC = b"PRCSNAP1"  # the last byte is the version
# The footer ends the file, so that it is complete only once its last bytes are there, and so that
# FAISS can read or memory-map the payload from the start of the file.
_FOOTER = struct.Struct("<I8s8s")  # bytes of the description, its checksum, magic
_DESCRIPTION_CHECKSUM_BYTES = 8
# Twice as long as a record's: it guards gigabytes, and FAISS crashes on bytes that are wrong.
_PAYLOAD_CHECKSUM_BYTES = 16
_BLOCK_BYTES = 1 << 20

SAVE_FROM_VECTORS = 30_000  # fewer are read from the store in half a second
SAVE_AFTER_CHANGES = 50_000  # read from the store in some seconds
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SnapshotDescription:
    """The content of a snapshot. The names of the fields are the keys in its JSON."""

    engine: str  # format of the payload
    embedding_size: int  # E
    vectors: int  # M
    payload_bytes: int
    payload_blake2b: str  # hex
    settings: Mapping[str, int] = field(default_factory=dict)  # of the engine

    def require(self, engine: str) -> None:
        """Raises IndexDamaged unless the payload has the format `engine`."""
        if self.engine != engine:
            raise IndexDamaged(
                f"the snapshot has the format {self.engine!r}, not {engine!r}"
            )


class _HashedPayload:
    """Passes bytes on to a file, counts and hashes them."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._hash = hashlib.blake2b(digest_size=_PAYLOAD_CHECKSUM_BYTES)
        self.byte_count = 0

    def write(self, block: bytes) -> int:
        self._hash.update(block)
        self.byte_count += len(block)
        return self._write(block)

    def checksum_hex(self) -> str:
        return self._hash.hexdigest()


def write_snapshot(
    path: Path,
    *,
    engine: str,
    embedding_size: int,
    vectors: int,
    write_payload: Callable[[Write], object],
    settings: Mapping[str, int] | None = None,
) -> SnapshotDescription:
    """Writes the payload through `write_payload`, then the footer; `path` is whole or unchanged.

    Raises StoreFull, StoreReadOnly, StoreError.
    """
    descriptions: list[SnapshotDescription] = []

    def write_file(write: Write) -> None:
        # Hashed while it is written: a payload of gigabytes is not read back for its checksum.
        payload = _HashedPayload(write)
        write_payload(payload.write)
        description = SnapshotDescription(
            engine,
            embedding_size,
            vectors,
            payload.byte_count,
            payload.checksum_hex(),
            settings or {},
        )
        text = json.dumps(asdict(description)).encode()
        footer = _FOOTER.pack(len(text), _description_checksum(text), MAGIC)
        write(text + footer)
        descriptions.append(description)

    with store_errors("the snapshot of the vector index cannot be written"):
        write_whole(path, write_file)
    return descriptions[0]


def read_description(path: Path, *, embedding_size: int) -> SnapshotDescription:
    """The description of a snapshot, once every byte of the file is verified.

    Raises IndexDamaged, also for another embedding size.
    """
    description = verify_snapshot(path)
    if description.embedding_size != embedding_size:
        raise IndexDamaged(f"snapshot {path.name} is of another embedding size")
    return description


def verify_snapshot(path: Path) -> SnapshotDescription:
    """`read_description` for any embedding size. Raises IndexDamaged."""
    try:
        with path.open("rb") as file:
            description = _read_footer(path, file)
            payload_checksum = _hash_payload(file, description.payload_bytes)
    except (OSError, struct.error, ValueError, TypeError) as error:
        raise IndexDamaged(f"snapshot {path.name} cannot be read") from error
    if payload_checksum != description.payload_blake2b:
        raise IndexDamaged(f"the payload of snapshot {path.name} is damaged")
    return description


def _read_footer(path: Path, file: BinaryIO) -> SnapshotDescription:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _FOOTER.size))
    text_bytes, text_checksum, magic = _FOOTER.unpack(file.read())
    if magic != MAGIC:
        raise IndexDamaged(f"not a snapshot of this version: {path.name}")
    file.seek(size - _FOOTER.size - text_bytes)
    text = file.read(text_bytes)
    # Before it is parsed: the length in damaged bytes may point anywhere in the payload.
    if _description_checksum(text) != text_checksum:
        raise IndexDamaged(f"the description of snapshot {path.name} is damaged")
    description = SnapshotDescription(**json.loads(text))
    if description.payload_bytes + text_bytes + _FOOTER.size != size:
        raise IndexDamaged(f"snapshot {path.name} has the wrong length")
    return description


def _hash_payload(file: BinaryIO, byte_count: int) -> str:
    file.seek(0)
    payload_hash = hashlib.blake2b(digest_size=_PAYLOAD_CHECKSUM_BYTES)
    remaining = byte_count
    while remaining:
        block = file.read(min(remaining, _BLOCK_BYTES))
        payload_hash.update(block)
        remaining -= len(block)
    return payload_hash.hexdigest()


def _description_checksum(text: bytes) -> bytes:
    return checksum(text, _DESCRIPTION_CHECKSUM_BYTES)


class SnapshotManager:
    """Snapshots `vectors-ENGINE-STORE_ID-LAST_ROW.snapshot` of a library in its data folder.

    A caller holds the library's write lock.
    """

    # Why the name carries the store's id and last row: a snapshot may be newer than its store, if
    # an older copy of the store was put back. The rows that copy assigns next are in the snapshot
    # already, under other images; a search would return the wrong ones. A store whose last row is
    # below the snapshot's is such a copy.

    def __init__(
        self, folder: Path, engine: str, former_names: Sequence[str] = ()
    ) -> None:
        """Snapshots named after one of the engine's `former_names` are loaded too."""
        self._folder = folder
        self._engine = engine
        self._readable_names = {engine, *former_names}
        self._has_snapshot = False
        self._changes = 0  # since the snapshot

    def load(self, index: VectorIndex, store: TokenStore) -> None:
        """Loads the newest snapshot that fits the store, if any; the caller adds what it lacks."""
        for path in self._fitting_snapshots(store):
            try:
                index.load(path)
            except IndexDamaged as error:
                log.warning("%s; the index is rebuilt from the store", error)
            else:
                self._has_snapshot = True
                return

    def note_changes(self, count: int, index: VectorIndex, store: TokenStore) -> None:
        """Counts changes of the index, and saves it once a restart would repeat too many."""
        self._changes += count
        # Half of the index at least: a growing library then writes its vectors a few times in all,
        # not once for every 50,000 images.
        if self._changes >= max(SAVE_AFTER_CHANGES, len(index) // 2):
            self.save(index, store)

    def save(self, index: VectorIndex, store: TokenStore) -> None:
        """Writes a snapshot if one is due. Failing is no loss: the store can rebuild the index."""
        unchanged = self._has_snapshot and not self._changes
        if unchanged or len(index) < SAVE_FROM_VECTORS:
            return
        try:
            name = (
                f"vectors-{self._engine}-{store.store_id}-{store.last_row()}.snapshot"
            )
            path = self._folder / name
            index.save(path)
            self._has_snapshot = True
            self._changes = 0
            # Only now: until the new one is on the disk, the old ones shorten a restart.
            for other in self._folder.glob("vectors-*"):
                if other != path:
                    other.unlink(missing_ok=True)
        except (StoreError, OSError) as error:
            log.warning("%s; the index will be rebuilt from the store", error)

    def size_bytes(self) -> int:
        """Bytes of all snapshots."""
        return sum(path.stat().st_size for path in self._folder.glob("vectors-*"))

    def _fitting_snapshots(self, store: TokenStore) -> list[Path]:
        """This engine's snapshots of this store, newest first. Deletes those that fit no engine."""
        # Engine names have hyphens of their own; the store's id is known and ends the name.
        pattern = re.compile(rf"vectors-([\w-]+)-{store.store_id}-(\d+)\.snapshot")
        last_row = store.last_row()
        fitting: list[tuple[int, Path]] = []
        unfit: list[Path] = []
        for path in self._folder.glob("vectors-*"):
            match = pattern.fullmatch(path.name)
            if match is None or int(match[2]) > last_row:
                unfit.append(path)
            elif match[1] in self._readable_names:
                fitting.append((int(match[2]), path))
        for path in unfit:
            path.unlink(missing_ok=True)
        if unfit:
            # Before the store assigns a row: a deletion that a power cut undid would leave a
            # snapshot that looks right once the store has given as many rows again.
            sync_folder(self._folder)
        return [path for _, path in sorted(fitting, reverse=True)]
