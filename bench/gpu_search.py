"""FAISS on a GPU beside FAISS on the CPU: the same neighbours, and queries a second of each.

Both compare everything (no approximation), so that they must agree; ties and rounding aside.
Needs the GPU build of FAISS and a card.
"""

from __future__ import annotations

import numpy as np

from bench.measure import Figure, in_turn, median_ratio, report, seconds
from index.registry import INDEXES, engine

VECTORS = 1_000_000
EMBEDDING_SIZE = 256
QUERIES = 256
NEIGHBOURS = 10


def run(
    vectors: int = VECTORS,
    queries: int = QUERIES,
    rounds: int = 5,
    gpu: str = "faiss-gpu",
) -> None:
    """Fills both indexes with the same vectors, searches in turn, and reports."""
    draw = np.random.default_rng(1)
    stored = unit_rows(draw.normal(size=(vectors, EMBEDDING_SIZE)))
    asked = unit_rows(draw.normal(size=(queries, EMBEDDING_SIZE)))
    indexes = {name: engine(INDEXES, name)(EMBEDDING_SIZE) for name in ("flat", gpu)}
    for index in indexes.values():
        index.add(np.arange(1, vectors + 1), stored)
    neighbours = {
        name: index.search(asked, NEIGHBOURS)[1] for name, index in indexes.items()
    }
    shared = [
        len(np.intersect1d(cpu_rows, gpu_rows)) / NEIGHBOURS
        for cpu_rows, gpu_rows in zip(neighbours["flat"], neighbours[gpu], strict=True)
    ]
    taken = in_turn(
        {
            name: lambda index=index: (
                queries / seconds(lambda: index.search(asked, NEIGHBOURS))
            )
            for name, index in indexes.items()
        },
        rounds,
    )
    report(
        "gpu_search",
        [
            Figure("neighbours_shared", float(np.mean(shared)), at_least=0.99),
            Figure("cpu_queries_per_s", float(np.median(taken["flat"]))),
            Figure("gpu_queries_per_s", float(np.median(taken[gpu]))),
            Figure("gpu_over_cpu", median_ratio(taken[gpu], taken["flat"])),
        ],
    )


def unit_rows(rows: np.ndarray) -> np.ndarray:
    """float32 rows of length 1."""
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


if __name__ == "__main__":
    run()
