"""Vector index that grows by itself: exact while small, then an inverted file, rebuilt in the
background as it grows.

Knows nothing of records or stores.
"""

from __future__ import annotations

import ctypes
import logging
import threading
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from index.concurrency import ReadWriteLock
from index.vectors import flat_index
from index.vectors.flat_index import FlatIndex
from index.vectors.int8_vectors import Int8Vectors, check_addition, check_queries
from index.vectors.ivf_index import IvfPqIndex
from index.vectors.snapshot import read_description

# Gives memory that was freed back to the system: after a build the C library keeps gigabytes of it
# for later use.


def give_back() -> None:
    """Does nothing where the C library is not glibc."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


log = logging.getLogger(__name__)

EXACT_UP_TO = 30_000  # vectors: comparing them all takes a few milliseconds
GROWTH = 4  # lists are divided anew when there are this many times the vectors they were made for
MAX_DEAD_SHARE = 1 / 4
_LAST_CHANGES = (
    5_000  # rows: what is left to be done again while nothing else goes on takes milliseconds
)
# rows during a build; further additions wait for it, else they outrun it and fill the memory
_MOST_CHANGES = 200_000

Change = tuple[
    NDArray[np.int64], NDArray[np.float32] | None
]  # rows and their vectors; None: removed


class AutoIndex:
    """See VectorIndex. While a new structure is built, the old one serves; what changes meanwhile
    is done again.

    Searches and removals never wait for a build; additions do once so many came during it that it
    would be outrun.
    """

    def __init__(self, embedding_size: int, *, exact_up_to: int = EXACT_UP_TO) -> None:
        self._size = embedding_size
        self._exact_up_to = exact_up_to
        self._lock = ReadWriteLock()
        self._current: FlatIndex | IvfPqIndex = FlatIndex(embedding_size)
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
            if isinstance(saved, FlatIndex):
                saved.save(path)
                return
            description = saved.write(path)
        with self._lock.writing():
            saved.adopt(path, description)
        give_back()

    def load(self, path: Path) -> None:
        """See VectorIndex."""
        description = read_description(path, embedding_size=self._size)
        loaded: FlatIndex | IvfPqIndex
        if description.engine == flat_index.ENGINE:
            loaded = FlatIndex(self._size)
            loaded.load_verified(path, description)
        else:
            loaded = IvfPqIndex.read(path, description)
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
            return isinstance(self._current, FlatIndex)

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
        if isinstance(self._current, FlatIndex):
            rows, vectors = self._current.contents()
            pile = Int8Vectors(self._size)
            pile.append(rows, vectors)
            positions = pile.live_positions()
        else:
            pile = self._current.pile()
            positions = pile.live_positions()
        self._builder = threading.Thread(
            target=self._build, args=(pile, positions), name="index-build", daemon=True
        )
        self._builder.start()

    def _due(self) -> bool:
        count = len(self._current)
        if count <= max(self._exact_up_to, self._stuck_at):
            return False
        if isinstance(self._current, FlatIndex):
            return True
        return (
            count >= GROWTH * self._current.built_with or self._current.dead_share > MAX_DEAD_SHARE
        )

    def _build(self, pile: Int8Vectors, positions: NDArray[np.int64]) -> None:
        try:
            built = IvfPqIndex.build(pile, positions)
        except Exception:
            log.exception("a larger vector index could not be built; the present one goes on")
            with self._lock.writing():
                self._stuck_at = 2 * len(self._current)
                self._builder, self._changes, self._changed_rows = None, [], 0
                self._not_outrun.set()
            return
        while not self._caught_up(built):
            pass
        give_back()

    def _caught_up(self, built: IvfPqIndex) -> bool:
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


def _catch_up(built: IvfPqIndex, changes: list[Change]) -> None:
    for rows, vectors in changes:
        _apply(built, rows, vectors)


def _apply(
    index: FlatIndex | IvfPqIndex, rows: NDArray[np.int64], vectors: NDArray[np.float32] | None
) -> int:
    """Adds, or removes where there are no vectors; how many were removed."""
    if vectors is None:
        return index.remove(rows)
    index.add(rows, vectors)
    return 0
