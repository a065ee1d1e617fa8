"""Exact vector index in a GPU's memory: FAISS's flat index in half precision, 2·E bytes a vector.

Knows nothing of records or stores. Not yet run on a GPU: without one it is tested over FAISS's flat
index on the CPU, which the same calls drive.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from index.errors import GpuMissing, IndexDamaged
from index.vectors.int8_vectors import check_addition, check_queries
from index.vectors.numpy_index import NumpyIndex

MOST_NEIGHBOURS = 2048  # that FAISS finds on a GPU in one call
_MAX_DEAD_SHARE = 1 / 8
_BLOCK = 65_536  # vectors read back at a time


def on_gpu(embedding_size: int) -> Any:
    """A flat index on the first GPU. Raises GpuMissing."""
    if not hasattr(faiss, "StandardGpuResources"):
        raise GpuMissing("this FAISS has no GPU part: install faiss-gpu in place of faiss-cpu")
    if faiss.get_num_gpus() == 0:
        raise GpuMissing("FAISS finds no GPU")
    config = faiss.GpuIndexFlatConfig()
    config.useFloat16 = True
    return faiss.GpuIndexFlatIP(faiss.StandardGpuResources(), embedding_size, config)


class GpuIndex:
    """See VectorIndex. Snapshots are those of NumpyIndex."""

    def __init__(self, embedding_size: int, make_flat: Callable[[int], Any] = on_gpu) -> None:
        """`make_flat` makes an empty FAISS index of inner products. Raises GpuMissing."""
        self._size = embedding_size
        self._make_flat = make_flat
        self._flat = make_flat(embedding_size)
        self._rows = np.empty(0, dtype=np.int64)  # by position
        self._dead = np.empty(0, dtype=bool)
        self._lock = threading.Lock()  # FAISS's GPU resources serve one thread at a time

    def add(self, rows: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """See VectorIndex."""
        check_addition(rows, vectors, self._size)
        with self._lock:
            self._dead |= np.isin(self._rows, rows)
            if len(rows):
                self._flat.add(np.ascontiguousarray(vectors, dtype=np.float32))
            self._rows = np.concatenate([self._rows, rows.astype(np.int64)])
            self._dead = np.concatenate([self._dead, np.zeros(len(rows), dtype=bool)])
            self._tidy()

    def __len__(self) -> int:
        """See VectorIndex."""
        with self._lock:
            return int((~self._dead).sum())

    def rows(self) -> NDArray[np.int64]:
        """See VectorIndex."""
        with self._lock:
            return np.sort(self._rows[~self._dead])

    def search(
        self, queries: NDArray[np.float32], k: int, allowed: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """See VectorIndex."""
        check_queries(queries, k, self._size)
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        with self._lock:
            wanted = ~self._dead if allowed is None else ~self._dead & np.isin(self._rows, allowed)
            positions = np.flatnonzero(wanted)
            # More than asked for, since FAISS does not know who is wanted; where few are, they are
            # compared here.
            fetch = k + len(wanted) - len(positions)
            if fetch <= MOST_NEIGHBOURS and len(positions):
                scores, found = self._flat.search(queries, min(fetch, len(wanted)))
                return self._first(scores, found, wanted, k)
            return self._compare(queries, positions, k)

    def remove(self, rows: NDArray[np.int64]) -> int:
        """See VectorIndex."""
        with self._lock:
            there = ~self._dead & np.isin(self._rows, rows)
            self._dead |= there
            self._tidy()
            return int(there.sum())

    def save(self, path: Path) -> None:
        """See VectorIndex."""
        with self._lock:
            kept = np.flatnonzero(~self._dead)
            copy = NumpyIndex(self._size)
            copy.add(self._rows[kept], self._vectors(kept))
        copy.save(path)

    def load(self, path: Path) -> None:
        """See VectorIndex."""
        copy = NumpyIndex(self._size)
        copy.load(path)
        rows, vectors = copy.contents()
        flat = self._make_flat(self._size)
        try:
            flat.add(vectors)
        except RuntimeError as error:
            raise IndexDamaged(f"snapshot {path.name} does not fit the GPU's memory") from error
        with self._lock:
            self._flat, self._rows, self._dead = flat, rows, np.zeros(len(rows), dtype=bool)

    def _first(
        self,
        scores: NDArray[np.float32],
        found: NDArray[np.int64],
        wanted: NDArray[np.bool_],
        k: int,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The first k wanted of each query's neighbours (Q, n), which hold enough of them."""
        best = np.full((len(found), k), -np.inf, dtype=np.float32)
        rows = np.full((len(found), k), -1, dtype=np.int64)
        for number, (of_query, positions) in enumerate(zip(scores, found, strict=True)):
            kept = np.flatnonzero((positions >= 0) & wanted[positions])[:k]
            best[number, : len(kept)] = of_query[kept]
            rows[number, : len(kept)] = self._rows[positions[kept]]
        return best, rows

    def _compare(
        self, queries: NDArray[np.float32], positions: NDArray[np.int64], k: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        some = NumpyIndex(self._size)
        some.add(self._rows[positions], self._vectors(positions))
        return some.search(queries, k)

    def _vectors(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """Read back from the GPU (n, E)."""
        parts = [np.empty((0, self._size), dtype=np.float32)]
        for start in range(0, len(positions), _BLOCK):
            parts.append(self._flat.reconstruct_batch(positions[start : start + _BLOCK]))
        return np.concatenate(parts)

    def _tidy(self) -> None:
        """Makes room once many are dead."""
        if self._dead.sum() <= _MAX_DEAD_SHARE * len(self._dead):
            return
        kept = np.flatnonzero(~self._dead)
        vectors = self._vectors(kept)
        self._flat.reset()
        if len(kept):
            self._flat.add(vectors)
        self._rows, self._dead = self._rows[kept], np.zeros(len(kept), dtype=bool)
