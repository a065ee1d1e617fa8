"""Exact vector index in FAISS: flat float32 vectors under a reader-writer lock, with tombstones."""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np

from index.concurrency import ReadWriteLock
from index.errors import IndexDamaged
from index.ports import Floats, Ints
from index.vectors.arithmetic import check_addition, check_queries, contiguous
from index.vectors.best_first import search_with_equals
from index.vectors.snapshot import SnapshotDescription, read_description, write_snapshot
from index.vectors.threads import use_threads_for

# Recorded in snapshots, whose bytes outlive the engine's name in the registry.
SNAPSHOT_FORMAT = "faiss-flat"
# Why tombstones: FAISS removes vectors by moving all that lie behind them, a copy of the index for
# each deletion. Compacting once an eighth is deleted spreads that cost over many.
MAX_DELETED_SHARE = 1 / 8


class FlatIndex:
    """See VectorIndex."""

    def __init__(self, embedding_size: int) -> None:
        self._size = embedding_size
        # FAISS allows concurrent searches, but none beside a change.
        self._lock = ReadWriteLock()
        self._index = faiss.IndexIDMap2(faiss.IndexFlatIP(embedding_size))
        self._highest_row = -1  # ever added
        self._deleted = np.empty(0, dtype=np.int64)  # rows under a tombstone, ascending

    def add(self, rows: Ints, vectors: Floats) -> None:
        """See VectorIndex."""
        check_addition(rows, vectors, self._size)
        with self._lock.writing():
            # Rows of a store only ascend: rows above all others need no search for old ones.
            if len(rows) and rows.min() <= self._highest_row:
                replaced = np.intersect1d(rows, self._all_rows())
                self._compact(replaced)
            highest_new_row = int(rows.max(initial=-1))
            self._highest_row = max(self._highest_row, highest_new_row)
            ids = rows.astype(np.int64)
            self._index.add_with_ids(contiguous(vectors), ids)

    def __len__(self) -> int:
        """See VectorIndex."""
        with self._lock.reading():
            return int(self._index.ntotal) - len(self._deleted)

    def rows(self) -> Ints:
        """See VectorIndex."""
        with self._lock.reading():
            return np.setdiff1d(self._all_rows(), self._deleted)

    def search(
        self, queries: Floats, k: int, allowed: Ints | None = None
    ) -> tuple[Floats, Ints]:
        """See VectorIndex."""
        check_queries(queries, k, self._size)
        queries = contiguous(queries)
        use_threads_for(len(queries))
        with self._lock.reading():
            parameters = None
            selector = self._selector(allowed)
            if selector is not None:
                parameters = faiss.SearchParameters(sel=selector)  # type: ignore[call-arg]

            def search(count: int) -> tuple[Floats, Ints]:
                found: tuple[Floats, Ints]
                found = self._index.search(queries, count, params=parameters)
                return found

            return search_with_equals(
                queries,
                k,
                search=search,
                most=max(1, self._index.ntotal),
                vectors_of=self._index.reconstruct_batch,
                rows_of=np.asarray,
            )

    def remove(self, rows: Ints) -> int:
        """See VectorIndex."""
        with self._lock.writing():
            present = np.intersect1d(rows, self._all_rows())
            removed = np.setdiff1d(present, self._deleted)
            self._deleted = np.union1d(self._deleted, removed)
            if len(self._deleted) > MAX_DELETED_SHARE * self._index.ntotal:
                self._compact(self._deleted)
            return len(removed)

    def save(self, path: Path) -> None:
        """See VectorIndex."""
        # Compacted first, so that the format needs no tombstones.
        with self._lock.writing():
            if len(self._deleted):
                self._compact(self._deleted)
        with self._lock.reading():
            write_snapshot(
                path,
                engine=SNAPSHOT_FORMAT,
                embedding_size=self._size,
                vectors=self._index.ntotal,
                write_payload=lambda write: faiss.write_index(
                    self._index,
                    faiss.PyCallbackIOWriter(write),  # type: ignore[attr-defined]
                ),
            )

    def load(self, path: Path) -> None:
        """See VectorIndex."""
        description = read_description(path, embedding_size=self._size)
        self.load_verified(path, description)

    def load_verified(self, path: Path, description: SnapshotDescription) -> None:
        """`load` of a snapshot whose description was read, and thereby verified, already."""
        description.require(SNAPSHOT_FORMAT)
        try:
            index = faiss.read_index(str(path))
        except RuntimeError as error:
            raise IndexDamaged(
                f"this FAISS does not read snapshot {path.name}"
            ) from error
        if not isinstance(index, faiss.IndexIDMap2):
            raise IndexDamaged(f"snapshot {path.name} holds no flat index")
        expected = (self._size, description.vectors)
        if (index.d, index.ntotal) != expected:
            raise IndexDamaged(f"snapshot {path.name} does not match its description")
        with self._lock.writing():
            self._index = index
            self._deleted = np.empty(0, dtype=np.int64)
            highest_row = self._all_rows().max(initial=-1)
            self._highest_row = int(highest_row)

    def contents(self) -> tuple[Ints, Floats]:
        """Copies of all live rows (M,), ascending, and of their vectors (M, E)."""
        with self._lock.reading():
            rows = self._all_rows()
            flat_vectors = self._index.index
            vectors = flat_vectors.reconstruct_n(0, len(rows))
            is_deleted = np.isin(rows, self._deleted)
            live = np.flatnonzero(~is_deleted)
            order = live[np.argsort(rows[live])]
            return rows[order], vectors[order]

    def _all_rows(self) -> Ints:
        """Rows in FAISS's index, deleted ones too, in the order of the vectors."""
        rows: Ints = faiss.vector_to_array(self._index.id_map)
        return rows

    def _selector(self, allowed: Ints | None) -> faiss.IDSelector | None:
        if allowed is not None:
            return faiss.IDSelectorBatch(np.setdiff1d(allowed, self._deleted))
        if not len(self._deleted):
            # FAISS asks a selector about every vector; without one it multiplies matrices.
            return None
        return faiss.IDSelectorNot(faiss.IDSelectorBatch(self._deleted))

    def _compact(self, rows: Ints) -> None:
        """Takes rows out of FAISS's index, live or not. Called with the lock held for writing."""
        self._index.remove_ids(faiss.IDSelectorBatch(rows))
        self._deleted = np.setdiff1d(self._deleted, rows)
