"""Exact vector index in NumPy: the reference that every other index is measured against.

Knows nothing of records or stores.
"""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from index.errors import IndexDamaged
from index.vectors.int8_vectors import check_addition, check_queries
from index.vectors.snapshot import read_description, write_snapshot

ENGINE = "exact"


class NumpyIndex:
    """See VectorIndex. Arrays are replaced, never changed, so a search needs the lock only to take
    hold of them.
    """

    def __init__(self, embedding_size: int) -> None:
        self._size = embedding_size
        self._lock = threading.Lock()
        self._rows = np.empty(0, dtype=np.int64)  # (M,), ascending
        self._vectors = np.empty((0, embedding_size), dtype=np.float32)  # (M, E)

    def add(self, rows: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """See VectorIndex."""
        check_addition(rows, vectors, self._size)
        with self._lock:
            kept = ~np.isin(self._rows, rows)
            all_rows = np.concatenate([self._rows[kept], rows])
            order = np.argsort(all_rows)
            self._vectors = np.concatenate([self._vectors[kept], vectors])[order]
            self._rows = all_rows[order]

    def __len__(self) -> int:
        """See VectorIndex."""
        return len(self._rows)

    def rows(self) -> NDArray[np.int64]:
        """See VectorIndex."""
        return self._rows.copy()

    def contents(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """All rows (M,), ascending, and their vectors (M, E)."""
        with self._lock:
            return self._rows, self._vectors

    def search(
        self, queries: NDArray[np.float32], k: int, allowed: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """See VectorIndex. Equal scores come in row order."""
        check_queries(queries, k, self._size)
        with self._lock:
            rows, vectors = self._rows, self._vectors
        if allowed is not None:
            kept = np.isin(rows, allowed)
            rows, vectors = rows[kept], vectors[kept]
        similarity = queries @ vectors.T
        best = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
        scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
        found = np.full((len(queries), k), -1, dtype=np.int64)
        scores[:, : best.shape[1]] = np.take_along_axis(similarity, best, axis=1)
        found[:, : best.shape[1]] = rows[best]
        return scores, found

    def remove(self, rows: NDArray[np.int64]) -> int:
        """See VectorIndex."""
        with self._lock:
            kept = ~np.isin(self._rows, rows)
            self._rows, self._vectors = self._rows[kept], self._vectors[kept]
            return int(len(kept) - kept.sum())

    def save(self, path: Path) -> None:
        """See VectorIndex."""
        with self._lock:
            rows, vectors = self._rows, self._vectors
        payload = rows.astype("<i8").tobytes() + vectors.astype("<f4").tobytes()
        write_snapshot(
            path,
            engine=ENGINE,
            embedding_size=self._size,
            vectors=len(rows),
            write=lambda take: take(payload),
        )

    def load(self, path: Path) -> None:
        """See VectorIndex."""
        description = read_description(path, embedding_size=self._size)
        description.require(ENGINE)
        count = description.vectors
        if description.payload_bytes != count * (8 + 4 * self._size):
            raise IndexDamaged(f"snapshot {path.name} has the wrong length")
        payload = path.read_bytes()[: description.payload_bytes]
        with self._lock:
            self._rows = np.frombuffer(payload[: 8 * count], dtype="<i8").astype(np.int64)
            self._vectors = (
                np.frombuffer(payload[8 * count :], dtype="<f4")
                .reshape(count, self._size)
                .astype(np.float32)
            )
