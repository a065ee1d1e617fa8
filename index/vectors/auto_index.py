"""Vector index that adapts to its size: exact while small, then an inverted file.

The inverted file is built, and rebuilt as it grows, on a thread in the background.
"""

from __future__ import annotations

import ctypes
import logging
import threading
from pathlib import Path

from index.concurrency import ReadWriteLock
from index.ports import Floats, Ints
from index.vectors.arithmetic import check_addition, check_queries
from index.vectors.flat_index import SNAPSHOT_FORMAT as FLAT_FORMAT
from index.vectors.flat_index import FlatIndex
from index.vectors.int8_vectors import Int8Vectors
from index.vectors.ivf_index import IvfPqIndex
from index.vectors.snapshot import read_description

log = logging.getLogger(__name__)

EXACT_UP_TO = 30_000  # vectors: comparing them all takes a few milliseconds
REBUILD_GROWTH = 4  # times the vectors that the lists were made for
MAX_DELETED_SHARE = 1 / 4
# Rows replayed while searches wait: milliseconds.
_MAX_FINAL_REPLAY = 5_000
# Rows changed during a build before further additions wait: they would outrun it, and the log of
# changes would fill the memory.
_MAX_LOGGED_CHANGES = 200_000

Change = tuple[Ints, Floats | None]  # rows; vectors, None for a removal


class AutoIndex:
    """See VectorIndex.

    While a new structure is built the old one serves; changes are logged and replayed in the new
    one. Searches and removals never wait for a build. Additions do once so many came during it that
    they would outrun it.
    """

    def __init__(self, embedding_size: int, *, exact_up_to: int = EXACT_UP_TO) -> None:
        self._size = embedding_size
        self._exact_up_to = exact_up_to
        self._lock = ReadWriteLock()
        self._current: FlatIndex | IvfPqIndex = FlatIndex(embedding_size)
        self._builder: threading.Thread | None = None
        self._changes: list[Change] = []  # since the build began
        self._changed_rows = 0
        self._may_add = threading.Event()
        self._may_add.set()
        # A build that failed would fail again at once; it is retried at twice the size.
        self._retry_above = 0  # vectors

    def add(self, rows: Ints, vectors: Floats) -> None:
        """See VectorIndex."""
        check_addition(rows, vectors, self._size)
        # Outside of the lock, which the builder needs in order to finish.
        self._may_add.wait()
        with self._lock.writing():
            self._change(rows, vectors)
            self._start_build_if_due()

    def __len__(self) -> int:
        """See VectorIndex."""
        with self._lock.reading():
            return len(self._current)

    def rows(self) -> Ints:
        """See VectorIndex."""
        with self._lock.reading():
            return self._current.rows()

    def search(
        self, queries: Floats, k: int, allowed: Ints | None = None
    ) -> tuple[Floats, Ints]:
        """See VectorIndex."""
        check_queries(queries, k, self._size)
        with self._lock.reading():
            return self._current.search(queries, k, allowed)

    def remove(self, rows: Ints) -> int:
        """See VectorIndex."""
        with self._lock.writing():
            removed = self._change(rows, None)
            self._start_build_if_due()
            return removed

    def save(self, path: Path) -> None:
        """See VectorIndex. An inverted file then reads its vectors from the snapshot."""
        # Under the read lock: seconds of writing during which searches go on.
        with self._lock.reading():
            saved = self._current
            if isinstance(saved, FlatIndex):
                saved.save(path)
                return
            description = saved.write(path)
        # Whatever was appended between the two locks stays in memory: only the vectors that the
        # snapshot holds are taken from it.
        with self._lock.writing():
            saved.adopt(path, description)
        release_free_memory()

    def load(self, path: Path) -> None:
        """See VectorIndex."""
        description = read_description(path, embedding_size=self._size)
        loaded: FlatIndex | IvfPqIndex
        if description.engine == FLAT_FORMAT:
            loaded = FlatIndex(self._size)
            loaded.load_verified(path, description)
        else:
            loaded = IvfPqIndex.read(path, description)
        # A build that is under way would put its own structure in place of the loaded one.
        self.wait()
        with self._lock.writing():
            self._current = loaded
            self._start_build_if_due()

    def wait(self) -> None:
        """Blocks until no structure is being built."""
        # A loop: a build that the vectors outgrew starts the next.
        while (builder := self._builder) is not None:
            builder.join()

    @property
    def exact(self) -> bool:
        """Whether a search compares every vector."""
        with self._lock.reading():
            return isinstance(self._current, FlatIndex)

    def _change(self, rows: Ints, vectors: Floats | None) -> int:
        if self._builder is not None:
            # Copies: the caller may reuse its arrays before the replay.
            logged_vectors = None if vectors is None else vectors.copy()
            self._changes.append((rows.copy(), logged_vectors))
            self._changed_rows += len(rows)
            if self._changed_rows > _MAX_LOGGED_CHANGES:
                self._may_add.clear()
        return _apply(self._current, rows, vectors)

    def _start_build_if_due(self) -> None:
        """Starts a build if one is due. Called with the lock held for writing."""
        if self._builder is not None or not self._is_build_due():
            return
        # Taken now, under the lock: the build sees the vectors as they are at this moment, and the
        # log of changes begins at the same one.
        if isinstance(self._current, FlatIndex):
            rows, vectors = self._current.contents()
            source = Int8Vectors(self._size)
            source.append(rows, vectors)
        else:
            source = self._current.vectors
        self._builder = threading.Thread(
            target=self._build,
            args=(source, source.live_positions()),
            name="index-build",
            # An unfinished build is no loss; it must not keep the process from ending.
            daemon=True,
        )
        self._builder.start()

    def _is_build_due(self) -> bool:
        count = len(self._current)
        if count <= max(self._exact_up_to, self._retry_above):
            return False
        if isinstance(self._current, FlatIndex):
            return True
        has_outgrown = count >= REBUILD_GROWTH * self._current.built_with
        return has_outgrown or self._current.deleted_share > MAX_DELETED_SHARE

    def _build(self, source: Int8Vectors, positions: Ints) -> None:
        try:
            built = IvfPqIndex.build(source, positions)
        except Exception:
            log.exception(
                "a larger vector index could not be built; the present one goes on"
            )
            self._give_up_build()
            return
        while not self._replay_changes(built):
            pass
        release_free_memory()

    def _give_up_build(self) -> None:
        with self._lock.writing():
            self._retry_above = 2 * len(self._current)
            self._builder = None
            self._changes = []
            self._changed_rows = 0
            # Additions that wait would otherwise wait for ever.
            self._may_add.set()

    def _replay_changes(self, built: IvfPqIndex) -> bool:
        """Replays what changed since the last call; puts `built` in place if that was little."""
        with self._lock.writing():
            changes = self._changes
            is_final = self._changed_rows <= _MAX_FINAL_REPLAY
            self._changes = []
            self._changed_rows = 0
            if is_final:
                # Under the lock, so that no change falls between the replay and the exchange.
                _replay(built, changes)
                self._current = built
                self._builder = None
                self._start_build_if_due()
                self._may_add.set()
                return True
        # Many changes are replayed while searches go on; additions wait meanwhile, so that each
        # round has less to replay than the one before and the last round comes.
        self._may_add.clear()
        _replay(built, changes)
        return False


def release_free_memory() -> None:
    """Returns freed memory to the system, where the C library is glibc."""
    # After a build, glibc keeps gigabytes of freed memory for later allocations.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _replay(index: IvfPqIndex, changes: list[Change]) -> None:
    for rows, vectors in changes:
        _apply(index, rows, vectors)


def _apply(index: FlatIndex | IvfPqIndex, rows: Ints, vectors: Floats | None) -> int:
    """Adds vectors, or removes rows if there are none; returns how many were removed."""
    if vectors is None:
        return index.remove(rows)
    index.add(rows, vectors)
    return 0
