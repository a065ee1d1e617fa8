"""How many threads FAISS uses for a search."""

from __future__ import annotations

import faiss

_MOST = faiss.omp_get_max_threads()


def use_threads_for(queries: int) -> None:
    """For this many queries: no more threads than queries, in what this thread asks of FAISS next.

    FAISS divides a search by queries, but translates the ids of even one in a team of threads. To
    wait for that team takes milliseconds where others keep the cores busy, and each thread that
    ever searched would keep a team of its own.
    """
    faiss.omp_set_num_threads(max(1, min(queries, _MOST)))
