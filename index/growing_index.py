"""Vector index that grows by itself: exact while small, then an inverted file, rebuilt in the background as it grows.

Knows nothing of records or stores.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from index import faiss_index, freed_memory
from index.faiss_index import FaissIndex
from index.inverted_index import InvertedIndex
from index.locks import ReadWriteLock
from index.snapshot import read_description
from index.vector_pile import VectorPile
from index.vectors import check_addition, check_queries

log = logging.getLogger(__name__)

EXACT_UP_TO = 30_000  # vectors: comparing them all takes a few milliseconds
GROWTH = 4  # lists are divided anew when there are this many times the vectors they were made for
MAX_DEAD_SHARE = 1 / 4
_LAST_CHANGES = 5_000  # rows: what is left to be done again while nothing else goes on takes milliseconds
_MOST_CHANGES = 200_000  # rows during a build; further additions wait for it, else they outrun it and fill the memory

Change = tuple[NDArray[np.int64], NDArray[np.float32] | None]  # rows and their vectors; None: removed


class GrowingIndex:
    """See VectorIndex. While a new structure is built, the old one serves; what changes meanwhile is done again.

    Searches and removals never wait for a build; additions do once so many came during it that it would be outrun.
    """

    def __init__(self, embedding_size: int, *, exact_up_to: int = EXACT_UP_TO) -> None:
        self._size = embedding_size
        self._exact_up_to = exact_up_to
        self._lock = ReadWriteLock()
        self._current: FaissIndex | InvertedIndex = FaissIndex(embedding_size)
        self._builder: threading.Thread | None = None
        self._changes: list[Change] = []  # during a build
        self._changed_rows = 0
        self._not_outrun = threading.Event()  # additions may go on
        self._not_outrun.set()
        self._stuck_at = 0  # vectors at a build that failed: not tried again before there are more

    def add(self, rows: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """See VectorIndex."""
        check_addition(rows, vectors, self._size)
        self._not_outrun.wait()
        with self._lock.writing():
            self._change(rows, vectors)
            self._grow()

    def __len__(self) -> int:
        """See VectorIndex."""
        with self._lock.reading():
            return len(self._current)

    def rows(self) -> NDArray[np.int64]:
        """See VectorIndex."""
        with self._lock.reading():
            return self._current.rows()

    def search(
        self, queries: NDArray[np.float32], k: int, allowed: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """See VectorIndex."""
        check_queries(queries, k, self._size)
        with self._lock.reading():
            return self._current.search(queries, k, allowed)

    def remove(self, rows: NDArray[np.int64]) -> int:
        """See VectorIndex."""
        with self._lock.writing():
            removed = self._change(rows, None)
            self._grow()
            return removed

    def save(self, path: Path) -> None:
        """See VectorIndex. An inverted file then reads its vectors from the snapshot in place of memory."""
        with self._lock.reading():
            saved = self._current
            if isinstance(saved, FaissIndex):
                saved.save(path)
                return
            description = saved.write(path)
        with self._lock.writing():
            saved.adopt(path, description)
        freed_memory.give_back()

    def load(self, path: Path) -> None:
        """See VectorIndex."""
        description = read_description(path, embedding_size=self._size)
        loaded: FaissIndex | InvertedIndex
        if description.engine == faiss_index.ENGINE:
            loaded = FaissIndex(self._size)
            loaded.load_verified(path, description)
        else:
            loaded = InvertedIndex.read(path, description)
        self.wait()
        with self._lock.writing():
            self._current = loaded
            self._grow()

    def wait(self) -> None:
        """Until no structure is being built."""
        while (builder := self._builder) is not None:
            builder.join()

    @property
    def exact(self) -> bool:
        """Whether every vector is compared."""
        with self._lock.reading():
            return isinstance(self._current, FaissIndex)

    def _change(self, rows: NDArray[np.int64], vectors: NDArray[np.float32] | None) -> int:
        if self._builder is not None:
            self._changes.append((rows.copy(), None if vectors is None else vectors.copy()))
            self._changed_rows += len(rows)
            if self._changed_rows > _MOST_CHANGES:
                self._not_outrun.clear()
        return _apply(self._current, rows, vectors)

    def _grow(self) -> None:
        """Starts a build if one is due. Called with the lock held for writing."""
        if self._builder is not None or not self._due():
            return
        if isinstance(self._current, FaissIndex):
            rows, vectors = self._current.contents()
            pile = VectorPile(self._size)
            pile.append(rows, vectors)
            positions = pile.live_positions()
        else:
            pile = self._current.pile()
            positions = pile.live_positions()
        self._builder = threading.Thread(target=self._build, args=(pile, positions), name="index-build", daemon=True)
        self._builder.start()

    def _due(self) -> bool:
        count = len(self._current)
        if count <= max(self._exact_up_to, self._stuck_at):
            return False
        if isinstance(self._current, FaissIndex):
            return True
        return count >= GROWTH * self._current.built_with or self._current.dead_share > MAX_DEAD_SHARE

    def _build(self, pile: VectorPile, positions: NDArray[np.int64]) -> None:
        try:
            built = InvertedIndex.build(pile, positions)
        except Exception:
            log.exception("a larger vector index could not be built; the present one goes on")
            with self._lock.writing():
                self._stuck_at = 2 * len(self._current)
                self._builder, self._changes, self._changed_rows = None, [], 0
                self._not_outrun.set()
            return
        while not self._caught_up(built):
            pass
        freed_memory.give_back()

    def _caught_up(self, built: InvertedIndex) -> bool:
        """Does in `built` what changed since it was begun; puts it in place if that was little."""
        with self._lock.writing():
            changes, count = self._changes, self._changed_rows
            self._changes, self._changed_rows = [], 0
            if few := count <= _LAST_CHANGES:
                _catch_up(built, changes)
                self._current, self._builder = built, None
                self._grow()  # it may have been overtaken while it was built
                self._not_outrun.set()
        if not few:
            self._not_outrun.clear()
            _catch_up(built, changes)
        return few


def _catch_up(built: InvertedIndex, changes: list[Change]) -> None:
    for rows, vectors in changes:
        _apply(built, rows, vectors)


def _apply(index: FaissIndex | InvertedIndex, rows: NDArray[np.int64], vectors: NDArray[np.float32] | None) -> int:
    """Adds, or removes where there are no vectors; how many were removed."""
    if vectors is None:
        return index.remove(rows)
    index.add(rows, vectors)
    return 0
