"""Approximate vector index: an inverted file of 4-bit product codes with an exact rerank.

Codes are in memory (E/2 bytes a vector); the int8 vectors lie in a memory-mapped snapshot, of which
a search reads a few hundred. Fast scan as in FAISS: André, Kermarrec, Le Scouarnec, "Quicker ADC"
(2019). Not thread-safe: AutoIndex locks. Shapes: E embedding size, Q queries, n positions.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from index.errors import IndexDamaged
from index.files import Write
from index.ports import Floats, Ints
from index.vectors.arithmetic import SCALE_ERROR, contiguous, no_results, unit
from index.vectors.best_first import best_first, cosines, near_best
from index.vectors.int8_vectors import Int8Vectors
from index.vectors.snapshot import SnapshotDescription, write_snapshot
from index.vectors.threads import use_threads_for

# Recorded in snapshots, whose bytes outlive the engine's name in the registry.
SNAPSHOT_FORMAT = "inverted-8bit"
TARGET_RECALL = 0.99  # of the ten nearest, on tuning queries
_TUNING_VECTORS = 200
_TUNING_NOISE = (0.0, 0.5, 1.0)  # length, as a share of the vector's
_TUNING_NEIGHBOURS = 10
_CANDIDATES = (32, 48, 64, 96, 128, 192, 256, 384, 512)  # reranked per query
_MAX_ALLOWED_EXACT = (
    4_096  # so many allowed rows are compared one by one, quicker than by probing
)
_TRAINING_VECTORS_PER_LIST = 64
_MIN_VECTORS_PER_LIST = 39  # below, FAISS warns that centroids are badly placed
_MIN_LISTS_TRAINED_FOR = 64
_ROW_BYTES = 8
_SCALE_BYTES = 4


class IvfPqIndex:
    """See VectorIndex, but approximate. Built once from vectors, then added to and removed from."""

    def __init__(
        self, index: Any, vectors: Int8Vectors, *, nprobe: int, candidates: int
    ) -> None:
        """`index` is a FAISS IndexIVF over the positions of `vectors`. Use `build` or `read`."""
        self._index = index
        self._vectors = vectors
        # The search params: lists probed and candidates reranked per query.
        self._index.nprobe = nprobe
        self._candidates = candidates
        self.built_with = len(
            vectors
        )  # vectors; AutoIndex rebuilds at a multiple of it
        self._tombstones = vectors.tombstones()

    @classmethod
    def build(cls, source: Int8Vectors, positions: Ints) -> IvfPqIndex:
        """An index of the vectors at `positions`; deterministic.

        Others may be appended to `source` meanwhile.
        """
        random = np.random.default_rng(0)
        index = _train(source, positions, random)
        rows = source.rows_at(positions)
        # A copy, block by block: the old index goes on changing its own vectors.
        vectors = Int8Vectors(index.d)
        start = 0
        for block in source.blocks(positions):
            index.add(block)
            vectors.append(rows[start : start + len(block)], block)
            start += len(block)
        # Lists that grew hold spare capacity, up to half of their memory; a copy holds none.
        index = faiss.deserialize_index(faiss.serialize_index(index))
        built = cls(index, vectors, nprobe=1, candidates=_CANDIDATES[0])
        built._tune_search_params(random)
        return built

    def __len__(self) -> int:
        """The number of vectors that a search can return."""
        return self._vectors.live_count

    @property
    def deleted_share(self) -> float:
        """The share of vectors under a tombstone."""
        count = max(1, len(self._vectors))
        return 1 - self._vectors.live_count / count

    @property
    def vectors(self) -> Int8Vectors:
        """The vectors and rows behind the codes."""
        return self._vectors

    def rows(self) -> Ints:
        """See VectorIndex."""
        return self._vectors.live_rows()

    def add(self, rows: Ints, vectors: Floats) -> None:
        """See VectorIndex."""
        self._vectors.delete(self._vectors.find(rows))
        # Both append, so that FAISS's ids and our positions stay the same numbers.
        self._index.add(contiguous(vectors))
        self._vectors.append(rows, vectors)
        self._tombstones = self._vectors.tombstones()

    def remove(self, rows: Ints) -> int:
        """See VectorIndex."""
        positions = self._vectors.find(rows)
        self._vectors.delete(positions)
        self._tombstones = self._vectors.tombstones()
        return len(positions)

    def search(
        self, queries: Floats, k: int, allowed: Ints | None = None
    ) -> tuple[Floats, Ints]:
        """See VectorIndex."""
        queries = contiguous(queries)
        if allowed is None:
            live = self._vectors.live_count
            has_tombstones = live < len(self._vectors)
            excluded = self._tombstones if has_tombstones else None
            nprobe = self._index.nprobe
            return self._search_lists(queries, k, live, nprobe, excluded)
        positions = self._vectors.find(np.unique(allowed))
        if len(positions) <= max(_MAX_ALLOWED_EXACT, k):
            shape = (len(queries), len(positions))
            candidates = np.broadcast_to(positions, shape)
            return self._rerank(queries, candidates, k)
        mask = np.ones(len(self._vectors), dtype=bool)
        mask[positions] = False
        # Where a share s of the vectors is allowed, a list holds that share of its candidates, so
        # more lists are opened. By 1/√s rather than 1/s: neighbours crowd in the nearest lists.
        share = len(positions) / self._vectors.live_count
        widened = int(self._index.nprobe * share**-0.5)
        nprobe = min(self._index.nlist, widened)
        excluded = np.packbits(mask, bitorder="little")
        return self._search_lists(queries, k, len(positions), nprobe, excluded)

    def _search_lists(
        self,
        queries: Floats,
        k: int,
        eligible: int,
        nprobe: int,
        excluded: NDArray[np.uint8] | None,
    ) -> tuple[Floats, Ints]:
        """Candidates from the lists, reranked; `eligible` counts the vectors not `excluded`."""
        if not eligible:
            return no_results(len(queries), k)
        # The search params were tuned for `built_with` vectors. Among more, proportionally more
        # rank before a true neighbour by their codes alone.
        growth = max(1.0, len(self._vectors) / self.built_with)
        count = max(int(self._candidates * growth), 2 * k)
        count = min(count, eligible)
        candidates = self._probe(queries, count, nprobe, excluded)
        # Widened until each query has k results. Only the queries that lack some: the result of one
        # must not depend on which others came in the same call.
        last_needed = min(k, eligible) - 1
        while nprobe < self._index.nlist:
            lacking = np.flatnonzero(candidates[:, last_needed] < 0)
            if not len(lacking):
                break
            nprobe = min(self._index.nlist, 4 * nprobe)
            wider = self._probe(queries[lacking], count, nprobe, excluded)
            candidates[lacking] = wider
        return self._rerank(queries, candidates, k)

    def write(self, path: Path) -> SnapshotDescription:
        """Writes a snapshot: FAISS's file, then rows, scales and int8 codes. Raises StoreError."""

        def write_payload(write: Write) -> None:
            faiss.write_index(
                self._index,
                faiss.PyCallbackIOWriter(write),  # type: ignore[attr-defined]
            )
            write(self._vectors.marked_rows().astype("<i8").tobytes())
            write(self._vectors.scales().astype("<f4").tobytes())
            # The codes last, where `_map_codes` finds them by their size alone.
            for block in self._vectors.code_blocks():
                write(np.ascontiguousarray(block).tobytes())

        settings = {
            "nprobe": self._index.nprobe,
            "candidates": self._candidates,
            "built_with": self.built_with,
        }
        return write_snapshot(
            path,
            engine=SNAPSHOT_FORMAT,
            embedding_size=self._index.d,
            vectors=len(self._vectors),
            settings=settings,
            write_payload=write_payload,
        )

    def adopt(self, path: Path, description: SnapshotDescription) -> None:
        """Reads the vectors from the snapshot that `write` made, and frees their memory."""
        self._vectors.rebase(_map_codes(path, description))

    @classmethod
    def read(cls, path: Path, description: SnapshotDescription) -> IvfPqIndex:
        """The index in a verified snapshot, its vectors memory-mapped. Raises IndexDamaged."""
        description.require(SNAPSHOT_FORMAT)
        count = description.vectors
        size = description.embedding_size
        settings = description.settings
        rows_offset = description.payload_bytes - count * (
            _ROW_BYTES + _SCALE_BYTES + size
        )
        scales_offset = rows_offset + count * _ROW_BYTES
        try:
            index = faiss.read_index(str(path))
            is_described = (index.d, index.ntotal) == (size, count)
            if not is_described or rows_offset < 0:
                raise IndexDamaged(
                    f"snapshot {path.name} does not match its description"
                )
            marked_rows = np.fromfile(
                path, dtype="<i8", count=count, offset=rows_offset
            )
            scales = np.fromfile(path, dtype="<f4", count=count, offset=scales_offset)
            vectors = Int8Vectors.of(_map_codes(path, description), scales, marked_rows)
            loaded = cls(
                index,
                vectors,
                nprobe=settings["nprobe"],
                candidates=settings["candidates"],
            )
            loaded.built_with = settings["built_with"]
        except (RuntimeError, KeyError, OSError, ValueError) as error:
            raise IndexDamaged(
                f"this version does not read snapshot {path.name}"
            ) from error
        return loaded

    def _probe(
        self,
        queries: Floats,
        count: int,
        nprobe: int,
        excluded: NDArray[np.uint8] | None,
    ) -> Ints:
        """Positions (Q, count) nearest by their codes, none `excluded`; padded with -1."""
        parameters = None
        if excluded is not None or nprobe != self._index.nprobe:
            # FAISS asks a selector about every code it scans; only where something is excluded.
            selector = None
            if excluded is not None:
                bitmap = faiss.IDSelectorBitmap(excluded)  # type: ignore[call-arg, arg-type]
                selector = faiss.IDSelectorNot(bitmap)
            parameters = faiss.SearchParametersIVF(  # type: ignore[call-arg]
                sel=selector, nprobe=nprobe
            )
        use_threads_for(len(queries))
        _, positions = self._index.search(queries, count, params=parameters)
        return np.asarray(positions)

    def _rerank(self, queries: Floats, candidates: Ints, k: int) -> tuple[Floats, Ints]:
        """The best k of each query's candidates, positions (Q, n) padded with -1."""
        scores, rows = no_results(len(queries), k)
        # In order of position: pages of the memory-mapped file are read forwards, and the padding
        # comes first.
        candidates = np.sort(candidates, axis=1)
        padding = (candidates < 0).sum(axis=1)
        for number, query in enumerate(queries):
            positions = candidates[number, padding[number] :]
            similarity = self._vectors.scores(positions, query)
            near = positions[near_best(similarity, k, SCALE_ERROR)]
            if not len(near):
                continue
            near_rows = self._vectors.rows_at(near)
            exact = cosines(unit(self._vectors.vectors_at(near)), query)
            best = best_first(exact, near_rows, k)
            scores[number, : len(best)] = exact[best]
            rows[number, : len(best)] = near_rows[best]
        return scores, rows

    def _tune_search_params(self, random: np.random.Generator) -> None:
        """Sets the smallest search params that reach the target recall on tuning queries.

        A tuning query is a stored vector with noise of length 0, 1/2 or 1: texts lie further from
        images than images do. The kind with the lowest recall decides.
        """
        tuning = _TuningQueries(self._vectors, random)

        def reaches_target() -> bool:
            _, rows = self.search(tuning.queries, tuning.k + 1)
            return tuning.recall(rows) >= TARGET_RECALL

        # Lists first, at the most candidates: too few lists lose neighbours that no rerank gives
        # back. Then as few candidates as these lists allow.
        self._candidates = _CANDIDATES[-1]
        while not reaches_target() and self._index.nprobe < self._index.nlist:
            doubled = 2 * self._index.nprobe
            self._index.nprobe = min(doubled, self._index.nlist)
        for candidates in _CANDIDATES:
            self._candidates = candidates
            if reaches_target():
                break


class _TuningQueries:
    """Queries made from stored vectors, with their exact neighbours."""

    def __init__(self, vectors: Int8Vectors, random: np.random.Generator) -> None:
        self.k = min(_TUNING_NEIGHBOURS, len(vectors) - 1)
        order = random.permutation(len(vectors))
        positions = np.sort(order[:_TUNING_VECTORS])
        originals = vectors.vectors_at(positions)
        normal = random.normal(size=originals.shape)
        noise = unit(normal.astype(np.float32))
        noisy = [originals + share * noise for share in _TUNING_NOISE]
        self.queries = unit(np.concatenate(noisy))
        # The vector behind a query is its nearest by construction, so it counts for nothing.
        own_rows = np.tile(vectors.rows_at(positions), len(_TUNING_NOISE))
        neighbours = _exact_neighbours(vectors, self.queries, self.k + 1)
        self._true_rows: list[set[int]] = []
        for rows, own_row in zip(neighbours, own_rows, strict=True):
            others = rows[rows != own_row]
            nearest = others[: self.k]
            self._true_rows.append(set(nearest.tolist()))

    def recall(self, rows: Ints) -> float:
        """The share of true neighbours among rows (Q, k + 1), of the worst kind of query."""
        shares = [
            len(true_rows.intersection(of_query)) / self.k
            for true_rows, of_query in zip(self._true_rows, rows.tolist(), strict=True)
        ]
        by_kind = np.reshape(shares, (len(_TUNING_NOISE), -1))
        return float(by_kind.mean(axis=1).min())


def _train(
    source: Int8Vectors, positions: Ints, random: np.random.Generator
) -> faiss.Index:
    """An empty inverted file, its lists and codes trained on a sample of the vectors."""
    count = len(positions)
    size = source.vectors_at(positions[:0]).shape[1]
    # √(2n) lists balance two costs of a search: comparing the query with every list's centre, and
    # scanning the codes of the lists probed.
    balanced = int(np.sqrt(2 * count))
    most = count // _MIN_VECTORS_PER_LIST
    lists = max(1, min(balanced, most))
    index = faiss.index_factory(
        size, f"IVF{lists},PQ{size}x4fsr", faiss.METRIC_INNER_PRODUCT
    )
    sample_size = _TRAINING_VECTORS_PER_LIST * max(lists, _MIN_LISTS_TRAINED_FOR)
    sample = np.sort(random.permutation(count)[:sample_size])
    index.train(source.vectors_at(positions[sample]))
    return index


def _exact_neighbours(vectors: Int8Vectors, queries: Floats, k: int) -> Ints:
    """The rows (Q, k) of the nearest of all vectors, none of which has a tombstone yet."""
    best_scores, best_positions = no_results(len(queries), 0)
    start = 0
    # Block by block, so that memory is bounded however many vectors there are.
    for block in vectors.blocks(np.arange(len(vectors))):
        block_positions = np.arange(start, start + len(block))
        shape = (len(queries), len(block))
        repeated = np.broadcast_to(block_positions, shape)
        block_scores = queries @ block.T
        scores = np.concatenate([best_scores, block_scores], axis=1)
        positions = np.concatenate([best_positions, repeated], axis=1)
        order = np.argpartition(-scores, k - 1, axis=1)
        best = order[:, :k]
        best_scores = np.take_along_axis(scores, best, axis=1)
        best_positions = np.take_along_axis(positions, best, axis=1)
        start += len(block)
    return vectors.rows_at(best_positions)


def _map_codes(path: Path, description: SnapshotDescription) -> NDArray[np.int8]:
    """The codes (M, E) at the end of the payload, memory-mapped."""
    shape = (description.vectors, description.embedding_size)
    if not description.vectors:
        # mmap refuses an empty range.
        return np.empty(shape, np.int8)
    offset = description.payload_bytes - shape[0] * shape[1]
    codes = np.memmap(path, dtype=np.int8, mode="r", offset=offset, shape=shape)
    return np.asarray(codes)
