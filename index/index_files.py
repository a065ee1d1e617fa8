"""The snapshots of a library's vector index: which file fits the store as it is now.

Knows nothing of how an index writes itself. A name says all that decides whether a snapshot may be used: the store it
was taken from and the last row that store had given. A store whose last row is lower is an older copy of itself, whose
coming rows would mean other images: such a snapshot is deleted before the first of those rows is given.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path

from index.errors import IndexDamaged, StoreError
from index.files import sync_folder
from index.ports import TokenStore, VectorIndex

log = logging.getLogger(__name__)

SAVE_FROM_VECTORS = 30_000  # fewer are read from the store in half a second, and need no second copy on the disk
SAVE_AFTER_CHANGES = 50_000  # read from the store in some seconds


class IndexFiles:
    """Snapshots `vectors-ENGINE-STORE_ID-LAST_ROW.snapshot` in the data folder. Used under the library's write lock."""

    def __init__(self, folder: Path, engine: str) -> None:
        self._folder = folder
        self._engine = engine
        self._saved = False  # whether there is a snapshot
        self._changes = 0  # since then

    def load(self, index: VectorIndex, store: TokenStore) -> None:
        """Loads the newest snapshot that fits the store, if there is one; the caller catches up from the store."""
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
            path = self._folder / f"vectors-{self._engine}-{store.store_id}-{store.last_row()}.snapshot"
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
        pattern = re.compile(rf"vectors-(\w+)-{store.store_id}-(\d+)\.snapshot")
        last_row = store.last_row()
        fitting, deleted = [], False
        for path in self._folder.glob("vectors-*"):
            match = pattern.fullmatch(path.name)
            if match is None or int(match[2]) > last_row:
                path.unlink(missing_ok=True)
                deleted = True
            elif match[1] == self._engine:
                fitting.append((int(match[2]), path))
        if deleted:
            sync_folder(self._folder)
        return [path for _, path in sorted(fitting, reverse=True)]
