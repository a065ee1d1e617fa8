"""Group commit: what several threads put while one commit runs goes into the next one together.

Knows nothing of what is put. A commit costs about the same for one item as for many, and so does an encoder's call.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(eq=False)
class _Ticket(Generic[Item, Result]):
    """What one caller puts, and what became of it."""

    items: Sequence[Item]
    results: Sequence[Result] = ()
    error: Exception | None = None
    done: bool = False


class GroupCommit(Generic[Item, Result]):
    """Calls `put` on one thread at a time, with the items of all callers that wait for it."""

    def __init__(self, put: Callable[[Sequence[Item]], Sequence[Result]]) -> None:
        """`put` gives a result for each item, in order; it stores all of its items or none."""
        self._put = put
        self._waiting: list[_Ticket[Item, Result]] = []
        self._door = threading.Lock()
        self._turn = threading.Lock()

    def __call__(self, items: Sequence[Item]) -> Sequence[Result]:
        """The results of these items, once they are stored. Raises what `put` raises of them."""
        ticket: _Ticket[Item, Result] = _Ticket(items)
        with self._door:
            self._waiting.append(ticket)
        with self._turn:
            if not ticket.done:  # nobody took it along: this caller commits for all who wait
                with self._door:
                    group = list(self._waiting)
                try:
                    self._commit(group)
                finally:
                    with self._door:
                        self._waiting = [each for each in self._waiting if not (each.done or each is ticket)]
        if ticket.error is not None:
            raise ticket.error
        return ticket.results

    def _commit(self, group: Sequence[_Ticket[Item, Result]]) -> None:
        try:
            results = self._put([item for ticket in group for item in ticket.items])
        except Exception as error:
            if len(group) == 1:
                group[0].error, group[0].done = error, True
            else:  # whoever's items it was, the others are stored
                for ticket in group:
                    self._commit([ticket])
            return
        start = 0
        for ticket in group:
            ticket.results = results[start : start + len(ticket.items)]
            ticket.done = True
            start += len(ticket.items)
