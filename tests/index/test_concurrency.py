"""Group commit: callers that wait share a commit; nobody pays for another's bad items."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from index.concurrency import GroupCommit
from tests.eventually import eventually
from tests.threads import run_threads


class Recorded:
    """A put that doubles numbers, refuses negative ones whole, and can be held up."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.calls.append(list(items))
        assert self.may_go_on.wait(30)
        if min(items, default=0) < 0:
            raise ValueError(f"{min(items)} is negative")
        return [2 * item for item in items]


def test_one_caller_gets_the_results_in_order() -> None:
    put = Recorded()
    commit = GroupCommit(put)
    assert commit([3, 1, 2]) == [6, 2, 4]
    assert commit([]) == []
    assert put.calls == [[3, 1, 2], []]


def test_callers_that_wait_share_the_next_commit() -> None:
    put = Recorded()
    commit = GroupCommit(put)
    put.may_go_on.clear()
    results: dict[int, Sequence[int]] = {}

    def work(number: int) -> None:
        if (
            number == 9
        ):  # lets the first commit go on once all the others wait behind it
            eventually(lambda: len(commit._queue) == 9)
            put.may_go_on.set()
        else:
            results[number] = commit([number, 10 * number])

    run_threads(10, work)
    assert results == {number: [2 * number, 20 * number] for number in range(9)}
    assert (
        len(put.calls) <= 3
    )  # the first, perhaps what came before it was seen, and all that waited
    assert sorted(item for call in put.calls for item in call) == sorted(
        [*range(9), *range(0, 90, 10)]
    )


def test_a_bad_item_fails_its_own_caller_alone() -> None:
    put = Recorded()
    commit = GroupCommit(put)
    put.may_go_on.clear()
    results: dict[int, Sequence[int]] = {}
    failed: list[int] = []

    def work(number: int) -> None:
        if number == 4:
            eventually(lambda: len(commit._queue) == 4)
            put.may_go_on.set()
            return
        try:
            results[number] = commit([-1 if number == 2 else number])
        except ValueError:
            failed.append(number)

    run_threads(5, work)
    assert failed == [2]
    assert results == {0: [0], 1: [2], 3: [6]}
    assert commit([5]) == [10]


def test_an_interrupt_reaches_its_own_caller_and_nobody_is_forgotten() -> None:
    interrupted = threading.Event()

    def put(items: Sequence[str]) -> list[str]:
        if items[0] == "interrupted" and not interrupted.is_set():
            eventually(lambda: len(commit._queue) == 2)
            interrupted.set()
            raise KeyboardInterrupt
        return list(items)

    commit = GroupCommit(put)
    results: list[Sequence[str]] = []

    def work(number: int) -> None:
        if number == 0:
            with pytest.raises(KeyboardInterrupt):
                commit(["interrupted"])
        else:
            eventually(lambda: bool(commit._queue))
            results.append(commit(["other"]))

    run_threads(2, work)
    assert results == [["other"]]
    assert not commit._queue
