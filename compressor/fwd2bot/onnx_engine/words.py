"""The embedding matrix of an exported model, in float32 or in the eight bits it was published in.

A language model published in GGUF's Q8_0 has blocks of 32 values, each value an integer of eight
bits times the block's scale. In float32 they take 3.6 times the memory and say no more.
Shapes: W words, D hidden size, C blocks of a word.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compressor.errors import ModelFilesInvalid

_BLOCK = 32
_TOP = 127  # the code of a block's largest value
_PART = 512  # words that are float32 at a time, where all are read


class Words:
    """A (W, D) embedding matrix, read as float32."""

    def __init__(
        self,
        values: NDArray[np.float32] | NDArray[np.int8],
        scales: NDArray[np.float32] | None = None,
    ) -> None:
        """(W, D) `values` in float32; or in int8, with (W, C) `scales` to multiply them with.

        Raises ModelFilesInvalid if they do not fit each other.
        """
        expected = np.float32 if scales is None else np.int8
        if values.ndim != 2 or values.dtype != expected:
            raise ModelFilesInvalid(f"words are no matrix of {expected.__name__}")
        self._values = values
        self._scales = scales
        if scales is not None and (
            scales.shape != (len(values), self.width // _BLOCK) or self.width % _BLOCK
        ):
            raise ModelFilesInvalid("words have scales of another shape")

    @classmethod
    def load(cls, path: Path, scales: NDArray[np.float32] | None) -> Words:
        """Maps a file of NumPy's. Raises ModelFilesInvalid, OSError or ValueError."""
        return cls(np.load(path, mmap_mode="r"), scales)

    def __len__(self) -> int:
        """W."""
        return len(self._values)

    @property
    def width(self) -> int:
        """D."""
        return int(self._values.shape[1])

    def __getitem__(
        self, which: NDArray[np.int64] | slice[int, int, None]
    ) -> NDArray[np.float32]:
        """(…) ids, or a part of the matrix → (…, D)."""
        values = self._values[which]
        if self._scales is None:
            return np.asarray(values, np.float32)
        scales = self._scales[which]
        blocks = values.reshape(*scales.shape, _BLOCK).astype(np.float32)
        blocks *= scales[..., None]
        return blocks.reshape(values.shape)

    def parts(self) -> Iterator[NDArray[np.float32]]:
        """All words in order, a few at a time, so that not all of them are float32 at once."""
        for start in range(0, len(self), _PART):
            yield self[start : start + _PART]


def in_eight_bits(
    words: NDArray[np.float32],
) -> tuple[NDArray[np.int8], NDArray[np.float32]] | None:
    """(W, D) codes and (W, C) scales that give exactly these (W, D) words; None if none do."""
    W, D = words.shape
    if D % _BLOCK:
        return None
    blocks = words.reshape(W, -1, _BLOCK)
    # Published in float16, so that the product with 127 was exact, and the quotient is again.
    scales = np.abs(blocks).max(-1) / np.float32(_TOP)
    divisors = np.where(scales == 0, np.float32(1), scales)[..., None]
    codes = np.rint(blocks / divisors).astype(np.int8)
    if not np.array_equal(codes * scales[..., None], blocks):
        return None
    return codes.reshape(W, D), scales
