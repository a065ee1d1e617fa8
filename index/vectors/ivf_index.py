"""Approximate vector index: an inverted file of 4-bit product codes, and the vectors themselves for
an exact rerank.

Knows nothing of records, stores or threads: its owner (growing_index.py) locks. Codes are in memory
(E/2 bytes a vector); the vectors (eight bits a value) lie in a memory-mapped snapshot, of which a
search touches a few hundred. Fast scan: André, Kermarrec, Le Scouarnec, "Quicker ADC" (2019), as
FAISS has it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from index.errors import IndexDamaged
from index.files import Take
from index.vectors.int8_vectors import Int8Vectors, unit
from index.vectors.snapshot import SnapshotDescription, write_snapshot

ENGINE = "inverted-8bit"
TARGET_RECALL = 0.99  # of the ten nearest, on queries made for the purpose
_SAMPLE_QUERIES = 200  # of each kind
_SAMPLE_NOISE = (0.0, 0.5, 1.0)
_CANDIDATES = (32, 48, 64, 96, 128, 192, 256, 384, 512)  # vectors reranked exactly for one query
_EXACT_ALLOWED = (
    4_096  # up to so many allowed rows are compared one by one: exact, and quicker than probing
)
_TRAINING_VECTORS_A_LIST = 64


class IvfPqIndex:
    """Built once from vectors, takes additions and removals. Same promises as VectorIndex, but
    approximate.
    """

    def __init__(self, index: Any, pile: Int8Vectors, *, nprobe: int, candidates: int) -> None:
        """`index` is a FAISS IndexIVF whose ids are the positions of `pile`. Use `build` or `read`."""
        self._index = index
        self._pile = pile
        index.nprobe = nprobe
        self._candidates = candidates
        self.built_with = len(pile)  # vectors; many more than that want a new division into lists
        self._dead_bits = pile.dead_bits()

    @classmethod
    def build(cls, pile: Int8Vectors, positions: NDArray[np.int64]) -> IvfPqIndex:
        """An index of the vectors at `positions`; others may be appended to `pile` meanwhile. Same
        in, same out.
        """
        count, size = len(positions), pile.vectors_at(positions[:0]).shape[1]
        lists = max(1, min(int(np.sqrt(2 * count)), count // 39))
        index = faiss.index_factory(size, f"IVF{lists},PQ{size}x4fsr", faiss.METRIC_INNER_PRODUCT)
        random = np.random.default_rng(0)
        sample = random.permutation(count)[: _TRAINING_VECTORS_A_LIST * max(lists, 64)]
        index.train(pile.vectors_at(positions[np.sort(sample)]))
        built = Int8Vectors(size)
        rows = pile.rows_at(positions)
        start = 0
        for block in pile.blocks(positions):
            index.add(block)
            built.append(rows[start : start + len(block)], block)
            start += len(block)
        index = faiss.deserialize_index(
            faiss.serialize_index(index)
        )  # lists that grew have room left over
        made = cls(index, built, nprobe=1, candidates=_CANDIDATES[0])
        made._choose_effort(random)
        return made

    def __len__(self) -> int:
        """Vectors that a search can find."""
        return self._pile.live_count

    @property
    def dead_share(self) -> float:
        """Of all vectors held."""
        return 1 - self._pile.live_count / max(1, len(self._pile))

    def pile(self) -> Int8Vectors:
        """The vectors and rows behind the codes."""
        return self._pile

    def rows(self) -> NDArray[np.int64]:
        """See VectorIndex."""
        return self._pile.live_rows()

    def add(self, rows: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """See VectorIndex."""
        self._kill(self._pile.find(rows))
        self._index.add(np.ascontiguousarray(vectors, dtype=np.float32))
        self._pile.append(rows, vectors)
        self._dead_bits = self._pile.dead_bits()

    def remove(self, rows: NDArray[np.int64]) -> int:
        """See VectorIndex."""
        positions = self._pile.find(rows)
        self._kill(positions)
        return len(positions)

    def search(
        self, queries: NDArray[np.float32], k: int, allowed: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """See VectorIndex. Scores are those of the vectors in eight bits."""
        live = self._pile.live_count
        bits = self._dead_bits if live < len(self._pile) else None
        if allowed is not None:
            positions = self._pile.find(np.unique(allowed))
            live = len(positions)
            if live <= max(_EXACT_ALLOWED, k):
                return self._rank(queries, np.broadcast_to(positions, (len(queries), live)), k)
            mask = np.ones(len(self._pile), dtype=bool)
            mask[positions] = False
            bits = np.packbits(mask, bitorder="little")
        if not live:
            return self._rank(queries, np.empty((len(queries), 0), dtype=np.int64), k)
        # Of more vectors than the effort was chosen for, as many more come before the nearest by
        # their codes alone.
        grown = max(1.0, len(self._pile) / self.built_with)
        candidates = min(max(int(self._candidates * grown), 2 * k), live)
        # Where few are allowed, more lists have to be opened to meet enough of them.
        nprobe = self._index.nprobe
        if allowed is not None:
            nprobe = min(self._index.nlist, int(nprobe * (self._pile.live_count / live) ** 0.5))
        wanted = np.ascontiguousarray(queries, dtype=np.float32)
        found = self._probe(wanted, candidates, nprobe, bits)
        # Each query is widened by itself: what one finds does not depend on which others come with
        # it.
        least = min(k, live) - 1
        while nprobe < self._index.nlist and (pending := np.flatnonzero(found[:, least] < 0)).size:
            nprobe = min(self._index.nlist, 4 * nprobe)
            found[pending] = self._probe(wanted[pending], candidates, nprobe, bits)
        return self._rank(wanted, found, k)

    def write(self, path: Path) -> SnapshotDescription:
        """Writes a snapshot: FAISS's file, then rows, scales and codes of the vectors. Raises StoreError."""

        def payload(take: Take) -> None:
            faiss.write_index(self._index, faiss.PyCallbackIOWriter(take))  # type: ignore[attr-defined]
            take(self._pile.marked_rows().astype("<i8").tobytes())
            take(self._pile.scales().astype("<f4").tobytes())
            for block in self._pile.code_blocks():
                take(np.ascontiguousarray(block).tobytes())

        return write_snapshot(
            path,
            engine=ENGINE,
            embedding_size=self._index.d,
            vectors=len(self._pile),
            settings={
                "nprobe": self._index.nprobe,
                "candidates": self._candidates,
                "built_with": self.built_with,
            },
            write=payload,
        )

    def adopt(self, path: Path, description: SnapshotDescription) -> None:
        """Reads the vectors from the snapshot that `write` made, in place of memory."""
        self._pile.rebase(_mapped_codes(path, description))

    @classmethod
    def read(cls, path: Path, description: SnapshotDescription) -> IvfPqIndex:
        """The index in a verified snapshot, its vectors memory-mapped. Raises IndexDamaged."""
        description.require(ENGINE)
        count, size = description.vectors, description.embedding_size
        rows_at = description.payload_bytes - count * (8 + 4 + size)
        try:
            index = faiss.read_index(str(path))
            if index.d != size or index.ntotal != count or rows_at < 0:
                raise IndexDamaged(f"snapshot {path.name} does not hold what it says")
            marked_rows = np.fromfile(path, dtype="<i8", count=count, offset=rows_at)
            scales = np.fromfile(path, dtype="<f4", count=count, offset=rows_at + 8 * count)
            pile = Int8Vectors.of(_mapped_codes(path, description), scales, marked_rows)
            settings = description.settings
            made = cls(index, pile, nprobe=settings["nprobe"], candidates=settings["candidates"])
            made.built_with = settings["built_with"]
        except (RuntimeError, KeyError, OSError, ValueError) as error:
            raise IndexDamaged(f"snapshot {path.name} is not read by this version") from error
        return made

    def _kill(self, positions: NDArray[np.int64]) -> None:
        self._pile.kill(positions)
        self._dead_bits = self._pile.dead_bits()

    def _probe(
        self,
        queries: NDArray[np.float32],
        candidates: int,
        nprobe: int,
        bits: NDArray[np.uint8] | None,
    ) -> NDArray[np.int64]:
        """Positions (Q, candidates) whose codes are nearest, -1 behind the last; none whose bit is set."""
        parameters = None
        if bits is not None or nprobe != self._index.nprobe:
            # A selector is asked about every code: only where something is left out.
            selector = None if bits is None else faiss.IDSelectorNot(faiss.IDSelectorBitmap(bits))  # type: ignore[call-arg, arg-type]
            parameters = faiss.SearchParametersIVF(sel=selector, nprobe=nprobe)  # type: ignore[call-arg]
        positions: NDArray[np.int64] = self._index.search(queries, candidates, params=parameters)[1]
        return positions

    def _rank(
        self, queries: NDArray[np.float32], positions: NDArray[np.int64], k: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The best `k` of each query's positions (Q, n), of which -1 stands for none."""
        scores = np.empty((len(queries), k), dtype=np.float32)
        rows = np.empty((len(queries), k), dtype=np.int64)
        positions = np.sort(positions, axis=1)
        absent = (positions < 0).sum(axis=1)
        for number, query in enumerate(queries):
            some = positions[number, absent[number] :]
            similarity = self._pile.scores(some, query)
            best = (-similarity).argsort(kind="stable")[:k]
            found = len(best)
            scores[number, :found], scores[number, found:] = similarity[best], -np.inf
            rows[number, :found], rows[number, found:] = self._pile.rows_at(some[best]), -1
        return scores, rows

    def _choose_effort(self, random: np.random.Generator) -> None:
        """Sets how many lists are probed and how many vectors reranked: the least that reaches the
        target recall.

        The queries are vectors with no noise, half as much and as much as themselves (texts lie
        further from images than images do), the hardest kind decides; that each vector is near its
        own query does not count.
        """
        k = min(10, len(self._pile) - 1)
        chosen = np.sort(random.permutation(len(self._pile))[:_SAMPLE_QUERIES])
        vectors = self._pile.vectors_at(chosen)
        noise = unit(random.normal(size=vectors.shape).astype(np.float32))
        queries = unit(np.concatenate([vectors + share * noise for share in _SAMPLE_NOISE]))
        own = np.tile(self._pile.rows_at(chosen), len(_SAMPLE_NOISE))
        truth = [
            set(some[some != row][:k].tolist())
            for some, row in zip(self._exact(queries, k + 1), own, strict=True)
        ]

        def recall() -> float:
            _, rows = self.search(queries, k + 1)
            found = [
                len(true & set(some.tolist())) / k for some, true in zip(rows, truth, strict=True)
            ]
            return float(np.reshape(found, (len(_SAMPLE_NOISE), -1)).mean(axis=1).min())

        self._candidates = _CANDIDATES[-1]
        while recall() < TARGET_RECALL and self._index.nprobe < self._index.nlist:
            self._index.nprobe = min(2 * self._index.nprobe, self._index.nlist)
        for candidates in _CANDIDATES:
            self._candidates = candidates
            if recall() >= TARGET_RECALL:
                break

    def _exact(self, queries: NDArray[np.float32], k: int) -> NDArray[np.int64]:
        """The rows (Q, k) of the nearest of all vectors, none of which is dead yet."""
        scores = np.empty((len(queries), 0), dtype=np.float32)
        positions = np.empty((len(queries), 0), dtype=np.int64)
        start = 0
        for block in self._pile.blocks(np.arange(len(self._pile))):
            here = np.broadcast_to(np.arange(start, start + len(block)), (len(queries), len(block)))
            scores = np.concatenate([scores, queries @ block.T], axis=1)
            positions = np.concatenate([positions, here], axis=1)
            best = np.argpartition(-scores, k - 1, axis=1)[:, :k]
            scores, positions = (
                np.take_along_axis(scores, best, axis=1),
                np.take_along_axis(positions, best, axis=1),
            )
            start += len(block)
        return self._pile.rows_at(positions)


def _mapped_codes(path: Path, description: SnapshotDescription) -> NDArray[np.int8]:
    """The codes (M, E) at the end of the payload, read from the file page by page as they are used."""
    shape = (description.vectors, description.embedding_size)
    offset = description.payload_bytes - shape[0] * shape[1]
    return (
        np.asarray(np.memmap(path, dtype=np.int8, mode="r", offset=offset, shape=shape))
        if shape[0]
        else np.empty(shape, np.int8)
    )
