"""The vector index at ten million: built within memory while it grows, saved, and searched.

Embeddings of the default model are extended by sampling around them, as in search_peers. They come
in blocks, as images do, so the structure is made anew several times on the way; the true nearest
are found by comparing every block as it comes. Physical limit: comparing every vector reads 1 kB of
each, ten gigabytes a query.
"""

from __future__ import annotations

import resource
import sys
import tempfile
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np

from bench.default_model import EMBEDDING_SIZE
from bench.measure import Figure, report, seconds
from bench.search_peers import HITS, Vectors, extended, real_embeddings
from index.vectors.auto_index import AutoIndex

QUERIES = 200
BLOCK = 100_000


def run(*, vectors: int = 10_000_000) -> None:
    """Builds, saves, searches and reports."""
    real = real_embeddings()
    queries = extended(real, QUERIES, 1)
    index = AutoIndex(EMBEDDING_SIZE)
    scores, nearest = (
        np.empty((QUERIES, 0), np.float32),
        np.empty((QUERIES, 0), np.int64),
    )
    add_s = 0.0
    for start in range(0, vectors, BLOCK):
        block = extended(real, min(BLOCK, vectors - start), 2 + start)
        rows = np.arange(start, start + len(block))
        scores, nearest = merged(scores, nearest, queries @ block.T, rows)
        add_s += seconds(lambda rows=rows, block=block: index.add(rows, block))
    wait_s = seconds(index.wait)
    with tempfile.TemporaryDirectory() as folder:
        save_s = seconds(lambda: index.save(Path(folder) / "vectors"))
        answers: list[list[int]] = []

        def search(query: Vectors) -> None:
            _, rows = index.search(query, HITS)
            answers.append(rows[0].tolist())

        first_s = [seconds(partial(search, query)) for query in queries[:, None]]
        again_s = [seconds(partial(search, query)) for query in queries[:, None]]
    hits = [
        len(set(rows) & set(true))
        for rows, true in zip(answers, nearest.tolist(), strict=False)
    ]
    recall = np.mean(hits) / HITS
    report(
        "search_large",
        [
            Figure("vectors", vectors),
            Figure("recall", float(recall), at_least=0.95),
            Figure("median_ms", 1e3 * median(again_s), at_most=20),
            Figure("first_median_ms", 1e3 * median(first_s)),
            Figure(
                "peak_resident_gb",
                resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
            ),
            Figure("add_s", add_s),
            Figure("wait_and_save_s", wait_s + save_s),
        ],
    )


def merged(
    scores: Vectors,
    rows: np.ndarray,
    more: Vectors,
    more_rows: np.ndarray,
) -> tuple[Vectors, np.ndarray]:  # type: ignore[type-arg]
    """The best of (Q, HITS) known and (Q, n) further scores, with their rows."""
    best = np.argpartition(-more, HITS, axis=1)[:, :HITS]
    scores = np.concatenate([scores, np.take_along_axis(more, best, axis=1)], axis=1)
    rows = np.concatenate([rows, more_rows[best]], axis=1)
    order = np.argsort(-scores, axis=1)[:, :HITS]
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(
        rows, order, axis=1
    )


if __name__ == "__main__":
    run(vectors=int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000)
