"""Exact vector index in NumPy: the reference for every other index."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np

from index.errors import IndexDamaged
from index.ports import Floats, Ints
from index.vectors.arithmetic import check_addition, check_queries, no_results
from index.vectors.best_first import best_first, cosines, near_best
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

    def add(self, rows: Ints, vectors: Floats) -> None:
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

    def rows(self) -> Ints:
        """See VectorIndex."""
        return self._rows.copy()

    def contents(self) -> tuple[Ints, Floats]:
        """All rows (M,), ascending, and their vectors (M, E)."""
        # Under the lock, so that the two arrays belong together.
        with self._lock:
            return self._rows, self._vectors

    def search(
        self, queries: Floats, k: int, allowed: Ints | None = None
    ) -> tuple[Floats, Ints]:
        """See VectorIndex."""
        check_queries(queries, k, self._size)
        candidates, vectors = self.contents()
        if allowed is not None:
            kept = np.isin(candidates, allowed)
            candidates = candidates[kept]
            vectors = vectors[kept]
        similarity = queries @ vectors.T
        scores, rows = no_results(len(queries), k)
        for number, query in enumerate(queries):
            near = near_best(similarity[number], k)
            exact = cosines(vectors[near], query)
            best = best_first(exact, near, k)
            scores[number, : len(best)] = exact[best]
            rows[number, : len(best)] = candidates[near[best]]
        return scores, rows

    def remove(self, rows: Ints) -> int:
        """See VectorIndex."""
        with self._lock:
            kept = ~np.isin(self._rows, rows)
            self._rows = self._rows[kept]
            self._vectors = self._vectors[kept]
            return int(len(kept) - kept.sum())

    def save(self, path: Path) -> None:
        """See VectorIndex."""
        rows, vectors = self.contents()
        row_bytes = rows.astype("<i8").tobytes()
        vector_bytes = vectors.astype("<f4").tobytes()
        write_snapshot(
            path,
            engine=SNAPSHOT_FORMAT,
            embedding_size=self._size,
            vectors=len(rows),
            write_payload=lambda write: write(row_bytes + vector_bytes),
        )

    def load(self, path: Path) -> None:
        """See VectorIndex."""
        description = read_description(path, embedding_size=self._size)
        description.require(SNAPSHOT_FORMAT)
        count = description.vectors
        # A right checksum proves that the bytes are those written, not that they are so many.
        if description.payload_bytes != count * (
            _ROW_BYTES + _VALUE_BYTES * self._size
        ):
            raise IndexDamaged(f"snapshot {path.name} has the wrong length")
        payload = path.read_bytes()
        rows = np.frombuffer(payload, dtype="<i8", count=count)
        values = np.frombuffer(
            payload, dtype="<f4", count=count * self._size, offset=count * _ROW_BYTES
        )
        with self._lock:
            self._rows = rows.astype(np.int64)
            vectors = values.reshape(count, self._size)
            self._vectors = vectors.astype(np.float32)
