"""Runs the same work in many threads and raises here what failed there."""

from __future__ import annotations

import threading
from collections.abc import Callable


def run_threads(count: int, work: Callable[[int], object]) -> None:
    """Calls `work(0)` … `work(count - 1)`, each in a thread of its own; raises the first failure
    once all are done.
    """
    failures: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            failures.append(error)

    threads = [
        threading.Thread(target=guarded, args=(number,)) for number in range(count)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
