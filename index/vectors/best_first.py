"""The order of search results: equal vectors come in row order, however many results are wanted.

An engine sums in float32, in an order that depends on how many vectors and queries it has. Its
scores of equal vectors therefore differ in their last digits, and chance would decide which of them
are among the best. So an engine finds candidates, and these are scored anew, each by itself.

Shapes: n candidates, E embedding size, Q queries.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from index.ports import Floats, Ints
from index.vectors.arithmetic import no_results

SUM_ERROR = 1e-5  # between two scores of one vector, summed in any order in float32
_DECIMALS = 6  # of a score; float32 has hardly more
# Candidates beyond k, which mostly show at once that the next ones are worse.
_SPARE = 4
_WIDENING = 4  # factor of candidates, where the last may still be as good as the kth

Scores = NDArray[np.float64]


def cosines(vectors: Floats, query: Floats) -> Scores:
    """The rounded cosines (n,) of unit vectors (n, E) with a unit query (E,)."""
    products: Scores
    products = np.vecdot(vectors.astype(np.float64), query.astype(np.float64))
    return products.round(_DECIMALS)


def best_first(scores: Scores, rows: Ints, k: int) -> Ints:
    """The places of the k best scores (n,), equal ones in the order of their rows (n,)."""
    return np.lexsort((rows, -scores))[:k]


def near_best(scores: Floats, k: int, error: float = SUM_ERROR) -> Ints:
    """The places of the scores (n,) that could be among the k best if each were off by `error`."""
    if k >= len(scores):
        return np.arange(len(scores))
    kth_best = np.partition(scores, -k)[-k]
    return np.flatnonzero(scores >= kth_best - error)


def search_with_equals(
    queries: Floats,
    k: int,
    *,
    search: Callable[[int], tuple[Floats, Ints]],
    most: int,
    vectors_of: Callable[[Ints], Floats],
    rows_of: Callable[[Ints], Ints],
) -> tuple[Floats, Ints]:
    """The scores (Q, k) and rows (Q, k) of an engine that lets chance choose among equals.

    `search` takes a number n of neighbours, up to `most`, and returns their scores (Q, n) and ids
    (Q, n), padded with -1; `vectors_of` and `rows_of` take ids (n,).
    """
    count = k + _SPARE
    scores, ids = search(min(count, most))
    while count < most and _may_go_on(scores, ids, k):
        count *= _WIDENING
        scores, ids = search(min(count, most))
    best_scores, best_rows = no_results(len(queries), k)
    for number, query in enumerate(queries):
        is_found = ids[number] >= 0
        near = near_best(scores[number, is_found], k)
        near_ids = ids[number, is_found][near]
        near_rows = rows_of(near_ids)
        exact = cosines(vectors_of(near_ids), query)
        best = best_first(exact, near_rows, k)
        best_scores[number, : len(best)] = exact[best]
        best_rows[number, : len(best)] = near_rows[best]
    return best_scores, best_rows


def _may_go_on(scores: Floats, ids: Ints, k: int) -> bool:
    """Whether a query may have equals of its kth best beyond the candidates (Q, n > k)."""
    is_equal = scores[:, -1] >= scores[:, k - 1] - SUM_ERROR
    return bool((is_equal & (ids[:, -1] >= 0)).any())
