"""Exact vector index in a GPU's memory: FAISS's flat index in half precision, 2·E bytes a vector.

Not yet run on a GPU. The tests drive the same calls over FAISS's flat index on the CPU.
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
from index.ports import Floats, Ints
from index.vectors.arithmetic import (
    check_addition,
    check_queries,
    contiguous,
)
from index.vectors.best_first import search_with_equals
from index.vectors.numpy_index import NumpyIndex

MAX_NEIGHBOURS = 2048  # per query, FAISS's limit on a GPU
_MAX_DELETED_SHARE = 1 / 8
_BLOCK = 65_536  # vectors read back at a time


def flat_index_on_gpu(embedding_size: int) -> Any:
    """An empty flat index on the first GPU. Raises GpuMissing."""
    if not hasattr(faiss, "StandardGpuResources"):
        raise GpuMissing(
            "this FAISS has no GPU part: install faiss-gpu in place of faiss-cpu"
        )
    if faiss.get_num_gpus() == 0:
        raise GpuMissing("FAISS finds no GPU")
    config = faiss.GpuIndexFlatConfig()
    config.useFloat16 = True
    return faiss.GpuIndexFlatIP(faiss.StandardGpuResources(), embedding_size, config)


class GpuIndex:
    """See VectorIndex. Snapshots have the format of NumpyIndex."""

    def __init__(
        self,
        embedding_size: int,
        make_flat_index: Callable[[int], Any] = flat_index_on_gpu,
    ) -> None:
        """`make_flat_index` makes an empty FAISS index of inner products. Raises GpuMissing."""
        self._size = embedding_size
        self._make_flat_index = make_flat_index
        self._flat_index = make_flat_index(embedding_size)
        # FAISS's flat index on a GPU knows no ids and removes nothing: rows and tombstones are
        # kept here, by position.
        self._rows = np.empty(0, dtype=np.int64)
        self._deleted = np.empty(0, dtype=bool)
        # A plain lock: FAISS's GPU resources serve one thread at a time.
        self._lock = threading.Lock()

    def add(self, rows: Ints, vectors: Floats) -> None:
        """See VectorIndex."""
        check_addition(rows, vectors, self._size)
        with self._lock:
            self._deleted |= np.isin(self._rows, rows)
            if len(rows):
                self._flat_index.add(contiguous(vectors))
            not_deleted = np.zeros(len(rows), dtype=bool)
            self._rows = np.concatenate([self._rows, rows])
            self._deleted = np.concatenate([self._deleted, not_deleted])
            self._compact_if_due()

    def __len__(self) -> int:
        """See VectorIndex."""
        with self._lock:
            return int((~self._deleted).sum())

    def rows(self) -> Ints:
        """See VectorIndex."""
        with self._lock:
            return np.sort(self._rows[~self._deleted])

    def search(
        self, queries: Floats, k: int, allowed: Ints | None = None
    ) -> tuple[Floats, Ints]:
        """See VectorIndex."""
        check_queries(queries, k, self._size)
        queries = contiguous(queries)
        with self._lock:
            eligible = ~self._deleted
            if allowed is not None:
                eligible &= np.isin(self._rows, allowed)
            positions = np.flatnonzero(eligible)
            # The GPU's index takes no selector. With k more neighbours than there are ineligible
            # vectors, k eligible ones are among them however the others rank.
            ineligible = len(eligible) - len(positions)
            if k + ineligible > MAX_NEIGHBOURS or not len(positions):
                return self._search_on_cpu(queries, positions, k)

            def search(count: int) -> tuple[Floats, Ints]:
                scores, found = self._flat_index.search(queries, count + ineligible)
                return _eligible_first(scores, found, eligible, count)

            return search_with_equals(
                queries,
                k,
                search=search,
                most=min(len(eligible), MAX_NEIGHBOURS) - ineligible,
                vectors_of=self._vectors_at,
                rows_of=self._rows.take,
            )

    def remove(self, rows: Ints) -> int:
        """See VectorIndex."""
        with self._lock:
            removed = ~self._deleted & np.isin(self._rows, rows)
            self._deleted |= removed
            self._compact_if_due()
            return int(removed.sum())

    def save(self, path: Path) -> None:
        """See VectorIndex."""
        with self._lock:
            live = np.flatnonzero(~self._deleted)
            copy = NumpyIndex(self._size)
            copy.add(self._rows[live], self._vectors_at(live))
        # Outside of the lock: writing takes seconds, and searches need not wait for a disk.
        copy.save(path)

    def load(self, path: Path) -> None:
        """See VectorIndex."""
        copy = NumpyIndex(self._size)
        copy.load(path)
        rows, vectors = copy.contents()
        flat_index = self._make_flat_index(self._size)
        try:
            flat_index.add(vectors)
        except RuntimeError as error:
            raise IndexDamaged(
                f"snapshot {path.name} does not fit the GPU's memory"
            ) from error
        with self._lock:
            self._flat_index = flat_index
            self._rows = rows
            self._deleted = np.zeros(len(rows), dtype=bool)

    def _search_on_cpu(
        self, queries: Floats, positions: Ints, k: int
    ) -> tuple[Floats, Ints]:
        """Exact search of the vectors at positions (n,), few where a filter allows few."""
        candidates = NumpyIndex(self._size)
        candidates.add(self._rows[positions], self._vectors_at(positions))
        return candidates.search(queries, k)

    def _vectors_at(self, positions: Ints) -> Floats:
        """The vectors (n, E) at positions (n,), read back from the GPU."""
        shape = (len(positions), self._size)
        vectors = np.empty(shape, dtype=np.float32)
        for start in range(0, len(positions), _BLOCK):
            end = start + _BLOCK
            vectors[start:end] = self._flat_index.reconstruct_batch(
                positions[start:end]
            )
        return vectors

    def _compact_if_due(self) -> None:
        """Rebuilds the index without its deleted vectors once they are an eighth of it."""
        if self._deleted.sum() <= _MAX_DELETED_SHARE * len(self._deleted):
            return
        live = np.flatnonzero(~self._deleted)
        vectors = self._vectors_at(live)
        self._flat_index.reset()
        if len(live):
            self._flat_index.add(vectors)
        self._rows = self._rows[live]
        self._deleted = np.zeros(len(live), dtype=bool)


def _eligible_first(
    scores: Floats, positions: Ints, eligible: NDArray[np.bool_], count: int
) -> tuple[Floats, Ints]:
    """The first eligible of each query's neighbours, (Q, count) of scores and positions (Q, n)."""
    is_hit = (positions >= 0) & eligible[positions]
    # A stable sort puts them in front and leaves them in their order.
    order = np.argsort(~is_hit, axis=1, kind="stable")[:, :count]
    first = np.take_along_axis(positions, order, axis=1)
    first[~np.take_along_axis(is_hit, order, axis=1)] = -1
    return np.take_along_axis(scores, order, axis=1), first
