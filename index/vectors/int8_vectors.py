"""Int8 vectors by position, each with a row: appended, never moved, the older part memory-mapped.

Shapes: n positions, E embedding size.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index.ports import Floats, Ints
from index.vectors.arithmetic import from_int8, to_int8

_BLOCK = 16_384  # vectors converted to float32 at a time


class Int8Vectors:
    """Positions 0..n-1, each with a vector (E,), a row, and a tombstone once its row is removed.

    Positions are what FAISS's codes refer to, so nothing is ever moved: a removal only sets a
    tombstone. One writer at a time; readers may go on, since what was appended never changes.
    """

    def __init__(self, size: int) -> None:
        # The codes of the first positions lie in a snapshot, memory-mapped; later ones in memory.
        no_codes = np.empty((0, size), dtype=np.int8)
        self._mapped = no_codes
        self._appended = no_codes  # with spare capacity
        self._scales = np.empty(0, dtype=np.float32)  # with spare capacity
        self._set_rows(np.empty(0, dtype=np.int64))

    @classmethod
    def of(
        cls, codes: NDArray[np.int8], scales: Floats, marked_rows: Ints
    ) -> Int8Vectors:
        """Starts from memory-mapped codes (n, E), scales (n,) and the result of `marked_rows`."""
        vectors = cls(codes.shape[1])
        vectors._mapped = codes
        vectors._scales = scales
        vectors._set_rows(marked_rows)
        return vectors

    def _set_rows(self, marked_rows: Ints) -> None:
        deleted = marked_rows < 0
        self._deleted = deleted
        self._rows = np.where(deleted, ~marked_rows, marked_rows)
        self._count = len(marked_rows)
        self._deleted_count = int(self._deleted.sum())
        # A store assigns rows in ascending order, so positions are nearly always sorted by row and
        # a binary search needs no index. Only additions out of order need `_by_row`.
        self._ascending = _is_ascending(self._rows)
        self._by_row: Ints | None = None  # positions sorted by row; made on demand

    def __len__(self) -> int:
        return self._count

    @property
    def live_count(self) -> int:
        """Positions without a tombstone."""
        return self._count - self._deleted_count

    def append(self, rows: Ints, vectors: Floats) -> None:
        """Adds m vectors (m, E) under rows (m,), none of which is live here."""
        start = self._count
        end = start + len(rows)
        last_row = self._rows[start - 1 : start]
        rows_from_last = np.concatenate([last_row, rows])
        self._ascending &= _is_ascending(rows_from_last)
        mapped = len(self._mapped)
        appended_start = start - mapped
        appended_end = end - mapped
        self._appended = _with_capacity(self._appended, appended_end, appended_start)
        self._rows = _with_capacity(self._rows, end, start)
        self._deleted = _with_capacity(self._deleted, end, start)
        self._scales = _with_capacity(self._scales, end, start)
        codes, scales = to_int8(vectors)
        self._appended[appended_start:appended_end] = codes
        self._scales[start:end] = scales
        self._rows[start:end] = rows
        self._deleted[start:end] = False
        # Last: a reader that sees the new count must find what it counts.
        self._count = end
        self._by_row = None

    def find(self, rows: Ints) -> Ints:
        """The positions of those of `rows` that are live, ascending."""
        if not self._count or not len(rows):
            return np.empty(0, dtype=np.int64)
        present = self._rows[: self._count]
        if self._ascending:
            positions = np.searchsorted(present, rows, side="right") - 1
        else:
            if self._by_row is None:
                self._by_row = np.argsort(present, kind="stable")
            # A row that was removed and added again has several positions, of which only the last
            # can be live: a stable sort keeps them in order and side="right" ends at the last.
            ends = np.searchsorted(present, rows, side="right", sorter=self._by_row)
            last_of_row = self._by_row[ends - 1]
            positions = np.where(ends > 0, last_of_row, -1)
        is_match = present[positions] == rows
        positions = positions[is_match & (positions >= 0)]
        is_live = ~self._deleted[positions]
        return np.unique(positions[is_live])

    def delete(self, positions: Ints) -> None:
        """Sets the tombstones of live positions."""
        self._deleted[positions] = True
        self._deleted_count += len(positions)

    def rows_at(self, positions: Ints) -> Ints:
        """The rows of positions of any shape."""
        return self._rows[positions]

    def live_positions(self) -> Ints:
        """The positions without a tombstone, ascending."""
        deleted = self._deleted[: self._count]
        return np.flatnonzero(~deleted)

    def live_rows(self) -> Ints:
        """The rows of live positions, ascending."""
        return np.sort(self._rows[self.live_positions()])

    def marked_rows(self) -> Ints:
        """The row of each position (n,), its bits inverted, so negative, under a tombstone."""
        rows = self._rows[: self._count]
        deleted = self._deleted[: self._count]
        return np.where(deleted, ~rows, rows)

    def tombstones(self) -> NDArray[np.uint8]:
        """One bit per position, set by a tombstone, lowest bit first: what FAISS's bitmap takes."""
        deleted = self._deleted[: self._count]
        return np.packbits(deleted, bitorder="little")

    def vectors_at(self, positions: Ints) -> Floats:
        """The vectors (n, E) of positions (n,)."""
        codes = self._codes_at(positions)
        return from_int8(codes, self._scales[positions])

    def scores(self, positions: Ints, query: Floats) -> Floats:
        """The inner products (n,) of the vectors at positions (n,) with a query (E,)."""
        # The scale multiplies the sum, not the components: n multiplications instead of n·E.
        codes = self._codes_at(positions)
        scores: Floats = codes.astype(np.float32) @ query
        scores *= self._scales.take(positions)
        return scores

    def _codes_at(self, positions: Ints) -> NDArray[np.int8]:
        mapped = len(self._mapped)
        # The two plain cases avoid a mask: they are those of an index without a snapshot and of
        # one that was loaded and not changed since.
        if not mapped:
            return self._appended.take(positions, axis=0)
        is_mapped = positions < mapped
        if is_mapped.all():
            return self._mapped.take(positions, axis=0)
        shape = (len(positions), self._mapped.shape[1])
        codes = np.empty(shape, dtype=np.int8)
        codes[is_mapped] = self._mapped[positions[is_mapped]]
        in_memory = positions[~is_mapped] - mapped
        codes[~is_mapped] = self._appended[in_memory]
        return codes

    def blocks(self, positions: Ints) -> Iterator[Floats]:
        """The vectors of positions (n,), a block of them at a time."""
        for start in range(0, len(positions), _BLOCK):
            yield self.vectors_at(positions[start : start + _BLOCK])

    def scales(self) -> Floats:
        """The scale of each position (n,)."""
        return self._scales[: self._count]

    def code_blocks(self) -> Iterator[NDArray[np.int8]]:
        """The codes of all vectors in order of position, a block of them at a time."""
        appended_count = self._count - len(self._mapped)
        appended = self._appended[:appended_count]
        for part in (self._mapped, appended):
            for start in range(0, len(part), _BLOCK):
                yield part[start : start + _BLOCK]

    def rebase(self, codes: NDArray[np.int8]) -> None:
        """Reads the first n vectors from memory-mapped codes (n, E), and frees their memory."""
        # A copy of what was appended meanwhile: a view would keep the whole array alive.
        start = len(codes) - len(self._mapped)
        end = self._count - len(self._mapped)
        self._appended = self._appended[start:end].copy()
        self._mapped = codes


def _is_ascending(rows: Ints) -> bool:
    steps = np.diff(rows)
    return bool((steps > 0).all())


def _with_capacity(array: NDArray[Any], needed: int, used: int) -> NDArray[Any]:
    """The array, or a larger one that begins with its first `used` entries."""
    if needed <= len(array):
        return array
    # Doubled: appending one by one then copies each entry about once.
    capacity = max(needed, 2 * len(array))
    larger = np.empty((capacity, *array.shape[1:]), dtype=array.dtype)
    larger[:used] = array[:used]
    return larger
