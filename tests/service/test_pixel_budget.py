"""The budget of pixels: who waits, in which order, and that nobody waits for ever."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from service.pixel_budget import PixelBudget
from tests.eventually import eventually


class Asking:
    """A thread that asks for room, and holds it until it is told."""

    def __init__(self, budget: PixelBudget, pixels: int) -> None:
        self.has_room = threading.Event()
        self.give_back = threading.Event()
        self._budget = budget
        self._pixels = pixels
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def end(self) -> None:
        """Gives the room back, or will as soon as it has it."""
        self.give_back.set()
        self._thread.join(30)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        with self._budget.room(self._pixels):
            self.has_room.set()
            self.give_back.wait(30)


@contextmanager
def asking(budget: PixelBudget, *sizes: int) -> Iterator[list[Asking]]:
    """Threads that ask in this order, the last of which do not get it."""
    with ExitStack() as stack:
        threads: list[Asking] = []
        for pixels in sizes:
            before = budget.waiting
            thread = Asking(budget, pixels)
            stack.callback(thread.end)
            threads.append(thread)
            eventually(lambda: thread.has_room.is_set() or budget.waiting > before)  # noqa: B023
        yield threads


def have_room(threads: list[Asking]) -> list[bool]:
    return [thread.has_room.is_set() for thread in threads]


def test_those_that_fit_together_do_not_wait() -> None:
    with asking(PixelBudget(10), 4, 4, 2) as threads:
        assert have_room(threads) == [True, True, True]


def test_a_large_one_is_not_overtaken_by_small_ones() -> None:
    with asking(PixelBudget(10), 4, 7, 1, 1) as threads:
        assert have_room(threads) == [True, False, False, False]
        threads[0].end()
        assert all(thread.has_room.wait(30) for thread in threads)


def test_one_larger_than_the_budget_is_alone() -> None:
    with asking(PixelBudget(10), 1, 1000, 1) as threads:
        assert have_room(threads) == [True, False, False]
        threads[0].end()
        assert threads[1].has_room.wait(30)
        assert not threads[2].has_room.is_set()
        threads[1].end()
        assert threads[2].has_room.wait(30)


def test_an_error_gives_the_room_back() -> None:
    budget = PixelBudget(10)
    with pytest.raises(KeyError), budget.room(10):
        raise KeyError
    with budget.room(10):
        pass
