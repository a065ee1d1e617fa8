"""Exact vector index in NumPy: the reference for every other index."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from index.errors import IndexDamaged
from index.vectors.arithmetic import check_addition, check_queries
from index.vectors.snapshot import read_description, write_snapshot

# Recorded in snapshots, whose bytes outlive the engine's name in the registry.
SNAPSHOT_FORMAT = "exact"
_ROW_BYTES = 8
_VALUE_BYTES = 4


class NumpyIndex:
    """See VectorIndex. Arrays are replaced, never changed, so that searches need no lock."""

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
            all_vectors = np.concatenate([self._vectors[kept], vectors])
            order = np.argsort(all_rows)
            self._rows = all_rows[order]
            self._vectors = all_vectors[order]

    def __len__(self) -> int:
        """See VectorIndex."""
        return len(self._rows)

    def rows(self) -> NDArray[np.int64]:
        """See VectorIndex."""
        return self._rows.copy()

    def contents(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """All rows (M,), ascending, and their vectors (M, E)."""
        # Under the lock, so that the two arrays belong together.
        with self._lock:
            return self._rows, self._vectors

    def search(
        self, queries: NDArray[np.float32], k: int, allowed: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """See VectorIndex. Equal scores come in row order."""
        check_queries(queries, k, self._size)
        candidates, vectors = self.contents()
        if allowed is not None:
            kept = np.isin(candidates, allowed)
            candidates = candidates[kept]
            vectors = vectors[kept]
        similarity = queries @ vectors.T
        # Stable, so that ties fall as rows do, and every engine can be compared with this one.
        best = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
        count = best.shape[1]
        scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
        rows = np.full((len(queries), k), -1, dtype=np.int64)
        scores[:, :count] = np.take_along_axis(similarity, best, axis=1)
        rows[:, :count] = candidates[best]
        return scores, rows

    def remove(self, rows: NDArray[np.int64]) -> int:
        """See VectorIndex."""
        with self._lock:
            kept = ~np.isin(self._rows, rows)
            self._rows = self._rows[kept]
            self._vectors = self._vectors[kept]
            return int(len(kept) - kept.sum())

    def save(self, path: Path) -> None:
        """See VectorIndex."""
        rows, vectors = self.contents()
        payload = rows.astype("<i8").tobytes() + vectors.astype("<f4").tobytes()
        write_snapshot(
            path,
            engine=SNAPSHOT_FORMAT,
            embedding_size=self._size,
            vectors=len(rows),
            write_payload=lambda write: write(payload),
        )

    def load(self, path: Path) -> None:
        """See VectorIndex."""
        description = read_description(path, embedding_size=self._size)
        description.require(SNAPSHOT_FORMAT)
        count = description.vectors
        # A right checksum proves that the bytes are those written, not that they are so many.
        if description.payload_bytes != count * (_ROW_BYTES + _VALUE_BYTES * self._size):
            raise IndexDamaged(f"snapshot {path.name} has the wrong length")
        payload = path.read_bytes()
        rows = np.frombuffer(payload, dtype="<i8", count=count)
        values = np.frombuffer(
            payload, dtype="<f4", count=count * self._size, offset=count * _ROW_BYTES
        )
        with self._lock:
            self._rows = rows.astype(np.int64)
            self._vectors = values.reshape(count, self._size).astype(np.float32)
