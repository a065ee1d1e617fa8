"""Vectors in eight bits and the row of each, by position: appended, never moved, the old part
memory-mapped.

Knows nothing of searching. Not thread-safe for writers; what was appended never changes. Shapes: n
positions, E.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from index.errors import InvalidVector

# Vectors as eight-bit integers, each with a scale of its own: how embeddings are kept.
#  Shapes: M vectors, E embedding size.
# A component is off by half a step at most, a 254th of the vector's largest. The cosine of
# two vectors of 256 components moves by less than 0.005.


_STEPS = 127
_KEPT_BITS = np.uint32(
    0xFFFFE000
)  # of a float32: with 11 bits, code times scale is exact in float32
_HALF_BIT = np.uint32(0x1000)


def to_eight_bits(vectors: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Codes (M, E) and scales (M,) of finite vectors (M, E). What was read gives the same codes and
    scales again.
    """
    largest = np.abs(vectors).max(axis=1, initial=0).astype(np.float32)
    bits = (largest / np.float32(_STEPS)).view(np.uint32)
    scales = ((bits + _HALF_BIT) & _KEPT_BITS).view(np.float32)
    steps = vectors / np.where(scales > 0, scales, np.float32(1))[:, None]
    return np.clip(np.rint(steps), -_STEPS, _STEPS).astype(np.int8), scales


def from_eight_bits(codes: NDArray[np.int8], scales: NDArray[np.float32]) -> NDArray[np.float32]:
    """The vectors (M, E)."""
    vectors: NDArray[np.float32] = codes.astype(np.float32) * scales[:, None].astype(np.float32)
    return vectors


def round_to_int8(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The vectors (M, E) as they come back."""
    return from_eight_bits(*to_eight_bits(vectors))


_BLOCK = 16_384  # vectors converted to float32 at a time


class Int8Vectors:
    """Positions 0..n-1, each with a vector (E,), a row, and whether it is dead (its row was removed)."""

    def __init__(self, size: int) -> None:
        self._base = np.empty((0, size), dtype=np.int8)
        self._later = np.empty((0, size), dtype=np.int8)  # with room to grow, as are the next three
        self._scales = np.empty(0, dtype=np.float32)
        self._take_rows(np.empty(0, dtype=np.int64))

    @classmethod
    def of(
        cls, codes: NDArray[np.int8], scales: NDArray[np.float32], marked_rows: NDArray[np.int64]
    ) -> Int8Vectors:
        """Starts with `codes` (n, E), which may be memory-mapped, their scales (n,) and their
        `marked_rows` (n,).
        """
        pile = cls(codes.shape[1])
        pile._base, pile._scales = codes, scales
        pile._take_rows(marked_rows)
        return pile

    def _take_rows(self, marked: NDArray[np.int64]) -> None:
        self._dead = marked < 0
        self._rows = np.where(self._dead, ~marked, marked)
        self._count = len(marked)
        self._dead_count = int(self._dead.sum())
        self._ascending = bool(
            (np.diff(self._rows) > 0).all()
        )  # as long as rows come in order, positions are sorted
        self._order: NDArray[np.int64] | None = (
            None  # else: positions sorted by row, None once out of date
        )

    def __len__(self) -> int:
        return self._count

    @property
    def live_count(self) -> int:
        """Positions that are not dead."""
        return self._count - self._dead_count

    def append(self, rows: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Adds m vectors (m, E) under rows (m,) that are not live here."""
        end = self._count + len(rows)
        before = self._rows[self._count - 1 : self._count]
        self._ascending = self._ascending and bool(
            (np.diff(np.concatenate([before, rows])) > 0).all()
        )
        used, base = self._count - len(self._base), len(self._base)
        self._later = _with_room(self._later, end - base, used)
        self._rows, self._dead = (
            _with_room(self._rows, end, self._count),
            _with_room(self._dead, end, self._count),
        )
        self._scales = _with_room(self._scales, end, self._count)
        self._later[used : end - base], self._scales[self._count : end] = to_eight_bits(vectors)
        self._rows[self._count : end] = rows
        self._dead[self._count : end] = False
        self._count = end
        self._order = None

    def find(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """The positions of those of `rows` that are live, in no special order."""
        if not self._count or not len(rows):
            return np.empty(0, dtype=np.int64)
        held = self._rows[: self._count]
        if self._ascending:
            positions = np.searchsorted(held, rows, side="right") - 1
        else:
            if self._order is None:
                self._order = np.argsort(held, kind="stable")
            # A row that was removed and came again has several positions; only the last can be
            # live.
            at = np.searchsorted(held, rows, side="right", sorter=self._order) - 1
            positions = np.where(at >= 0, self._order[at], -1)
        positions = positions[(positions >= 0) & (held[positions] == rows)]
        return np.unique(positions[~self._dead[positions]])

    def kill(self, positions: NDArray[np.int64]) -> None:
        """Marks live positions as dead."""
        self._dead[positions] = True
        self._dead_count += len(positions)

    def rows_at(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """The rows of positions of any shape."""
        return self._rows[positions]

    def live_positions(self) -> NDArray[np.int64]:
        """Ascending."""
        return np.flatnonzero(~self._dead[: self._count])

    def live_rows(self) -> NDArray[np.int64]:
        """Ascending."""
        return np.sort(self._rows[: self._count][~self._dead[: self._count]])

    def marked_rows(self) -> NDArray[np.int64]:
        """The row of each position (n,), its bits inverted (a negative number) where it is dead."""
        return np.where(
            self._dead[: self._count], ~self._rows[: self._count], self._rows[: self._count]
        )

    def dead_bits(self) -> NDArray[np.uint8]:
        """One bit a position, set where it is dead, the lowest bit of a byte first."""
        return np.packbits(self._dead[: self._count], bitorder="little")

    def vectors_at(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """The vectors (n, E) of positions (n,)."""
        return from_eight_bits(self._codes_at(positions), self._scales[positions])

    def scores(
        self, positions: NDArray[np.int64], query: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """The inner products (n,) of the vectors at positions (n,) and a query (E,)."""
        found: NDArray[np.float32] = self._codes_at(positions).astype(np.float32) @ query
        found *= self._scales.take(positions)
        return found

    def _codes_at(self, positions: NDArray[np.int64]) -> NDArray[np.int8]:
        base = len(self._base)
        if not base:
            return self._later.take(positions, axis=0)
        if base == self._count or (old := positions < base).all():
            return self._base.take(positions, axis=0)
        taken = np.empty((len(positions), self._base.shape[1]), dtype=np.int8)
        taken[old] = self._base[positions[old]]
        taken[~old] = self._later[positions[~old] - base]
        return taken

    def blocks(self, positions: NDArray[np.int64]) -> Iterator[NDArray[np.float32]]:
        """The vectors of positions (n,), some thousands at a time."""
        for start in range(0, len(positions), _BLOCK):
            yield self.vectors_at(positions[start : start + _BLOCK])

    def scales(self) -> NDArray[np.float32]:
        """The scale of each position (n,)."""
        return self._scales[: self._count]

    def code_blocks(self) -> Iterator[NDArray[np.int8]]:
        """The codes of all vectors, in order of position."""
        for part in (self._base, self._later[: self._count - len(self._base)]):
            for start in range(0, len(part), _BLOCK):
                yield part[start : start + _BLOCK]

    def rebase(self, codes: NDArray[np.int8]) -> None:
        """Takes `codes` (n, E), a memory-mapped copy of the first n here, in their place: that
        frees memory.
        """
        left = self._count - len(codes)
        start = len(codes) - len(self._base)
        self._later = self._later[start : start + left].copy()
        self._base = codes


def _with_room(array: NDArray, needed: int, used: int) -> NDArray:  # type: ignore[type-arg]
    """The array, or one of twice the size that begins with the `used` first entries of it."""
    if needed <= len(array):
        return array
    larger = np.empty((max(needed, 2 * len(array)), *array.shape[1:]), dtype=array.dtype)
    larger[:used] = array[:used]
    return larger


# Checks and arithmetic that every vector index and the library share.
#  Shapes: E embedding size, Q queries, M vectors.


def check_addition(rows: NDArray[np.int64], vectors: NDArray[np.float32], size: int) -> None:
    """Raises InvalidVector unless `rows` is (M,), all different and not negative, and `vectors`
    finite (M, size).
    """
    if rows.ndim != 1 or vectors.shape != (len(rows), size):
        raise InvalidVector(
            f"rows {rows.shape} and vectors {vectors.shape} do not make (M,) and (M, {size})"
        )
    if not np.isfinite(vectors).all():
        raise InvalidVector("a vector holds NaN or infinity")
    if len(rows) and (rows.min() < 0 or len(np.unique(rows)) != len(rows)):
        raise InvalidVector("rows must be different and not negative")


def check_queries(queries: NDArray[np.float32], k: int, size: int) -> None:
    """Raises InvalidVector unless `queries` is finite (Q, size) and `k` at least 1."""
    if queries.ndim != 2 or queries.shape[1] != size:
        raise InvalidVector(f"queries must have shape (Q, {size}), not {queries.shape}")
    if not np.isfinite(queries).all():
        raise InvalidVector("a query holds NaN or infinity")
    if k < 1:
        raise InvalidVector(f"k must be at least 1, not {k}")


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The vectors (M, E) at length 1. Raises InvalidVector for one of length zero."""
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    if (lengths == 0).any():
        raise InvalidVector("a vector of length zero has no direction")
    directions: NDArray[np.float32] = (vectors / lengths).astype(np.float32)
    return directions
