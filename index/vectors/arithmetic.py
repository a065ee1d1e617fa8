"""Arithmetic on vectors that stores, indexes and the library share: checks, unit length, int8.

Shapes: M vectors, E embedding size, Q queries.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from index.errors import InvalidVector
from index.ports import Floats, Ints

_MAX_CODE = 127
# The upper bits of a float32: sign, exponent and 11 significant bits. A code has 7, so code times
# scale has 18 and is exact in float32; that is what makes rounding twice the same as once.
_SCALE_BITS = np.uint32(0xFFFFE000)
_HALF_UNIT = np.uint32(0x1000)  # of the last bit that is kept
SCALE_ERROR = 1e-3  # between the inner products of two unit vectors with such scales


def check_addition(rows: Ints, vectors: Floats, size: int) -> None:
    """Raises InvalidVector unless rows (M,) are distinct and >= 0, and vectors finite (M, size)."""
    expected_shape = (len(rows), size)
    if rows.ndim != 1 or vectors.shape != expected_shape:
        raise InvalidVector(
            f"rows {rows.shape} and vectors {vectors.shape} are not of shape (M,) and (M, {size})"
        )
    if not np.isfinite(vectors).all():
        raise InvalidVector("a vector holds NaN or infinity")
    distinct = np.unique(rows)
    has_negative = (distinct < 0).any()
    if len(distinct) < len(rows) or has_negative:
        raise InvalidVector("rows must be distinct and not negative")


def check_queries(queries: Floats, k: int, size: int) -> None:
    """Raises InvalidVector unless queries are finite (Q, size) and k is at least 1."""
    if queries.ndim != 2 or queries.shape[1] != size:
        raise InvalidVector(f"queries must have shape (Q, {size}), not {queries.shape}")
    if not np.isfinite(queries).all():
        raise InvalidVector("a query holds NaN or infinity")
    if k < 1:
        raise InvalidVector(f"k must be at least 1, not {k}")


def contiguous(vectors: Floats) -> Floats:
    """The vectors as FAISS takes them: float32, row by row in one block of memory."""
    return np.ascontiguousarray(vectors, dtype=np.float32)


def no_results(query_count: int, k: int) -> tuple[Floats, Ints]:
    """The results of a search that finds nothing: scores (Q, k) of -inf and rows (Q, k) of -1."""
    shape = (query_count, k)
    scores = np.full(shape, -np.inf, dtype=np.float32)
    rows = np.full(shape, -1, dtype=np.int64)
    return scores, rows


def unit(vectors: Floats) -> Floats:
    """The vectors (M, E) scaled to length 1. Raises InvalidVector for a vector of length zero."""
    # In float64: the squares of values above 1e19 overflow float32.
    doubles = vectors.astype(np.float64)
    lengths = np.linalg.norm(doubles, axis=1, keepdims=True)
    if (lengths == 0).any():
        raise InvalidVector("a vector of length zero has no direction")
    directions = vectors / lengths
    return np.asarray(directions, dtype=np.float32)


def to_int8(vectors: Floats) -> tuple[NDArray[np.int8], Floats]:
    """Codes (M, E) and scales (M,) of finite vectors (M, E).

    A component is off by at most half a step, 1/254 of the vector's largest; the cosine of two
    vectors of 256 components moves by less than 0.005. What `from_int8` returns has the same codes
    and scales again.
    """
    magnitudes = np.abs(vectors)
    largest = magnitudes.max(axis=1, initial=0)
    largest = largest.astype(np.float32)
    exact_scales = largest / np.float32(_MAX_CODE)
    bits = exact_scales.view(np.uint32)
    rounded_bits = (bits + _HALF_UNIT) & _SCALE_BITS
    scales = rounded_bits.view(np.float32)
    # A vector of zeros has scale 0, by which it cannot be divided; its codes are 0 all the same.
    divisors = np.where(scales > 0, scales, np.float32(1))
    steps = vectors / divisors[:, np.newaxis]
    codes = np.rint(steps)
    # The rounded scale may be the smaller one, and the largest component then 128 steps.
    codes = np.clip(codes, -_MAX_CODE, _MAX_CODE)
    return codes.astype(np.int8), scales


def from_int8(codes: NDArray[np.int8], scales: Floats) -> Floats:
    """The vectors (M, E) of codes (M, E) and scales (M,)."""
    vectors: Floats = codes.astype(np.float32)
    vectors *= scales[:, np.newaxis]
    return vectors


def round_to_int8(vectors: Floats) -> Floats:
    """The vectors (M, E) as a store gives them back."""
    codes, scales = to_int8(vectors)
    return from_int8(codes, scales)
