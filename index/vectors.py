"""Checks and arithmetic that every vector index and the library share.

Knows nothing of indexes or stores. Shapes: E embedding size, Q queries, M vectors.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from index.errors import BadVector


def check_addition(rows: NDArray[np.int64], vectors: NDArray[np.float32], size: int) -> None:
    """Raises BadVector unless `rows` is (M,), all different and not negative, and `vectors` finite (M, size)."""
    if rows.ndim != 1 or vectors.shape != (len(rows), size):
        raise BadVector(f"rows {rows.shape} and vectors {vectors.shape} do not make (M,) and (M, {size})")
    if not np.isfinite(vectors).all():
        raise BadVector("a vector holds NaN or infinity")
    if len(rows) and (rows.min() < 0 or len(np.unique(rows)) != len(rows)):
        raise BadVector("rows must be different and not negative")


def check_queries(queries: NDArray[np.float32], k: int, size: int) -> None:
    """Raises BadVector unless `queries` is finite (Q, size) and `k` at least 1."""
    if queries.ndim != 2 or queries.shape[1] != size:
        raise BadVector(f"queries must have shape (Q, {size}), not {queries.shape}")
    if not np.isfinite(queries).all():
        raise BadVector("a query holds NaN or infinity")
    if k < 1:
        raise BadVector(f"k must be at least 1, not {k}")


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The vectors (M, E) at length 1. Raises BadVector for one of length zero."""
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    if (lengths == 0).any():
        raise BadVector("a vector of length zero has no direction")
    directions: NDArray[np.float32] = (vectors / lengths).astype(np.float32)
    return directions
