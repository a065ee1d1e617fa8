"""Exact vector index in FAISS: flat inner products over rows, with its own lock and tombstones.

Knows nothing of records or stores.
"""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from index.concurrency import ReadWriteLock
from index.errors import IndexDamaged
from index.vectors.int8_vectors import check_addition, check_queries
from index.vectors.snapshot import SnapshotDescription, read_description, write_snapshot

ENGINE = "faiss-flat"
# Taking vectors out moves all that lie behind them, so it waits until this share of the index is
# dead.
MAX_DEAD_SHARE = 1 / 8


class FlatIndex:
    """See VectorIndex. FAISS allows searches side by side, but nothing beside a change: hence the lock."""

    def __init__(self, embedding_size: int) -> None:
        self._size = embedding_size
        self._lock = ReadWriteLock()
        self._index = faiss.IndexIDMap2(faiss.IndexFlatIP(embedding_size))
        self._highest_row = -1  # ever added
        self._dead = np.empty(
            0, dtype=np.int64
        )  # removed rows that are still in the index, ascending

    def add(self, rows: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """See VectorIndex."""
        check_addition(rows, vectors, self._size)
        with self._lock.writing():
            if (
                len(rows) and rows.min() <= self._highest_row
            ):  # else they are new: no need to look at all
                self._take_out(np.intersect1d(rows, self._all_rows()))
            self._highest_row = max(self._highest_row, int(rows.max(initial=-1)))
            self._index.add_with_ids(
                np.ascontiguousarray(vectors, dtype=np.float32), rows.astype(np.int64)
            )

    def __len__(self) -> int:
        """See VectorIndex."""
        with self._lock.reading():
            return int(self._index.ntotal) - len(self._dead)

    def rows(self) -> NDArray[np.int64]:
        """See VectorIndex."""
        with self._lock.reading():
            return np.setdiff1d(self._all_rows(), self._dead)

    def search(
        self, queries: NDArray[np.float32], k: int, allowed: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """See VectorIndex."""
        check_queries(queries, k, self._size)
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        with self._lock.reading():
            selector = self._selector(allowed)
            parameters = faiss.SearchParameters(sel=selector) if selector else None  # type: ignore[call-arg]
            scores, rows = self._index.search(queries, k, params=parameters)
        scores[rows < 0] = -np.inf  # FAISS fills up with its lowest float
        return scores, rows

    def remove(self, rows: NDArray[np.int64]) -> int:
        """See VectorIndex."""
        with self._lock.writing():
            there = np.setdiff1d(np.intersect1d(rows, self._all_rows()), self._dead)
            self._dead = np.union1d(self._dead, there)
            if len(self._dead) > MAX_DEAD_SHARE * self._index.ntotal:
                self._take_out(self._dead)
            return len(there)

    def save(self, path: Path) -> None:
        """See VectorIndex."""
        with self._lock.writing():
            if len(self._dead):
                self._take_out(self._dead)
        with self._lock.reading():
            write_snapshot(
                path,
                engine=ENGINE,
                embedding_size=self._size,
                vectors=self._index.ntotal,
                write=lambda take: faiss.write_index(self._index, faiss.PyCallbackIOWriter(take)),  # type: ignore[attr-defined]
            )

    def load(self, path: Path) -> None:
        """See VectorIndex."""
        self.load_verified(path, read_description(path, embedding_size=self._size))

    def load_verified(self, path: Path, description: SnapshotDescription) -> None:
        """`load` for one who has read the description already."""
        description.require(ENGINE)
        try:
            index = faiss.read_index(str(path))
        except RuntimeError as error:
            raise IndexDamaged(f"snapshot {path.name} is not read by this FAISS") from error
        if (
            not isinstance(index, faiss.IndexIDMap2)
            or index.d != self._size
            or index.ntotal != description.vectors
        ):
            raise IndexDamaged(f"snapshot {path.name} does not hold what it says")
        with self._lock.writing():
            self._index, self._dead = index, np.empty(0, dtype=np.int64)
            self._highest_row = int(self._all_rows().max(initial=-1))

    def contents(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Copies of the rows (M,) that a search can find, ascending, and of their vectors (M, E)."""
        with self._lock.reading():
            rows = self._all_rows()
            vectors = self._index.index.reconstruct_n(0, self._index.ntotal)
            live = np.flatnonzero(~np.isin(rows, self._dead))
            order = live[np.argsort(rows[live])]
            return rows[order], vectors[order]

    def _all_rows(self) -> NDArray[np.int64]:
        """Rows in the index, dead ones too, in the order of the vectors."""
        rows: NDArray[np.int64] = faiss.vector_to_array(self._index.id_map)
        return rows

    def _selector(self, allowed: NDArray[np.int64] | None) -> faiss.IDSelector | None:
        if allowed is not None:
            return faiss.IDSelectorBatch(np.setdiff1d(allowed, self._dead))
        return faiss.IDSelectorNot(faiss.IDSelectorBatch(self._dead)) if len(self._dead) else None

    def _take_out(self, rows: NDArray[np.int64]) -> None:
        self._index.remove_ids(faiss.IDSelectorBatch(rows))
        self._dead = np.setdiff1d(self._dead, rows)
