"""Vectors as eight-bit integers, each with a scale of its own: how embeddings are kept.

Knows nothing of records or indexes. Shapes: M vectors, E embedding size.

A component is off by half a step at most, a 254th of the vector's largest. The cosine of
two vectors of 256 components moves by less than 0.005.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_STEPS = 127
_KEPT_BITS = np.uint32(0xFFFFE000)  # of a float32: with 11 bits, code times scale is exact in float32
_HALF_BIT = np.uint32(0x1000)


def to_eight_bits(vectors: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Codes (M, E) and scales (M,) of finite vectors (M, E). What was read gives the same codes and scales again."""
    largest = np.abs(vectors).max(axis=1, initial=0).astype(np.float32)
    bits = (largest / np.float32(_STEPS)).view(np.uint32)
    scales = ((bits + _HALF_BIT) & _KEPT_BITS).view(np.float32)
    steps = vectors / np.where(scales > 0, scales, np.float32(1))[:, None]
    return np.clip(np.rint(steps), -_STEPS, _STEPS).astype(np.int8), scales


def from_eight_bits(codes: NDArray[np.int8], scales: NDArray[np.float32]) -> NDArray[np.float32]:
    """The vectors (M, E)."""
    vectors: NDArray[np.float32] = codes.astype(np.float32) * scales[:, None].astype(np.float32)
    return vectors


def rounded(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The vectors (M, E) as they come back."""
    return from_eight_bits(*to_eight_bits(vectors))
