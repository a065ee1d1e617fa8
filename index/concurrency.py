"""Two locks: many readers or one writer among threads, one holder of a folder among processes.

Knows nothing of what they guard.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from index.errors import StoreBusy, StoreError, StoreReadOnly


class ReadWriteLock:
    """Any number of readers or one writer; a waiting writer goes before new readers. Not re-entrant."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._readers = 0
        self._writing = False
        self._writers_waiting = 0

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Shared with other readers."""
        with self._condition:
            self._condition.wait_for(lambda: not self._writing and not self._writers_waiting)
            self._readers += 1
        try:
            yield
        finally:
            with self._condition:
                self._readers -= 1
                self._condition.notify_all()

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Alone."""
        with self._condition:
            self._writers_waiting += 1
            try:
                self._condition.wait_for(lambda: not self._writing and not self._readers)
            finally:
                self._writers_waiting -= 1
            self._writing = True
        try:
            yield
        finally:
            with self._condition:
                self._writing = False
                self._condition.notify_all()


class FolderLock:
    """Held by one open store at a time; the kernel drops it when the process ends, however it ends."""

    def __init__(self, path: Path) -> None:
        """Takes the lock file `path`. Raises StoreBusy, StoreReadOnly, StoreError."""
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            kind = (
                StoreReadOnly
                if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)
                else StoreError
            )
            raise kind(f"the lock of the data folder cannot be opened: {error.strerror}") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._file)
            raise StoreBusy(
                "the data folder is in use by another process or another open library"
            ) from error

    def release(self) -> None:
        """Lets the next one in; does nothing the second time."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


# Group commit: what several threads put while one commit runs goes into the next one together.
#  A commit costs about the same for one item as for many, and so does an encoder's call.


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
                        self._waiting = [
                            each for each in self._waiting if not (each.done or each is ticket)
                        ]
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
