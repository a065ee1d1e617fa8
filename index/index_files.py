"""The snapshots of a library's vector index: which file fits the store as it is now.

Knows nothing of how an index writes itself. A name says all that decides whether a snapshot may be used: the store it
was taken from and the last row that store had given. A store whose last row is lower is an older copy of itself, whose
coming rows would mean other images: such a snapshot is not used.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path

from index.errors import IndexDamaged, StoreError
from index.ports import TokenStore, VectorIndex

log = logging.getLogger(__name__)


class IndexFiles:
    """Snapshots `vectors-ENGINE-STORE_ID-LAST_ROW.snapshot` in the data folder. Used under the library's write lock."""

    def __init__(self, folder: Path, engine: str) -> None:
        self._folder = folder
        self._engine = engine
        self._changes = 0  # since the newest snapshot

    def load(self, index: VectorIndex, store: TokenStore) -> None:
        """Loads the newest snapshot that fits the store, if there is one; the caller catches up from the store."""
        for unfinished in self._folder.glob("vectors-*.snapshot.tmp"):
            unfinished.unlink(missing_ok=True)
        self._changes = 1  # until a snapshot is loaded there is something to save
        fitting = [(row, path) for row, path in self._snapshots(store) if row <= store.last_row()]
        for _, path in sorted(fitting, reverse=True):
            try:
                index.load(path)
            except IndexDamaged as error:
                log.warning("%s; the index is rebuilt from the store", error)
            else:
                self._changes = 0
                return

    def changed(self, count: int) -> None:
        """Notes that the index changed."""
        self._changes += count

    def save(self, index: VectorIndex, store: TokenStore) -> None:
        """Writes a snapshot if anything changed; failing to is no loss, the store is the truth."""
        if not self._changes:
            return
        path = self._folder / f"vectors-{self._engine}-{store.store_id}-{store.last_row()}.snapshot"
        try:
            index.save(path)
        except StoreError as error:
            log.warning("%s; the index will be rebuilt from the store", error)
            return
        self._changes = 0
        for other in self._folder.glob("vectors-*.snapshot"):
            if other != path:
                other.unlink(missing_ok=True)

    def size_bytes(self) -> int:
        """Of all snapshots."""
        return sum(path.stat().st_size for path in self._folder.glob("vectors-*.snapshot"))

    def _snapshots(self, store: TokenStore) -> list[tuple[int, Path]]:
        """(last row, path) of this engine's snapshots of this store."""
        pattern = re.compile(rf"vectors-{re.escape(self._engine)}-{store.store_id}-(\d+)\.snapshot")
        matches = ((pattern.fullmatch(path.name), path) for path in self._folder.iterdir())
        return [(int(match[1]), path) for match, path in matches if match]
