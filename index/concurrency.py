"""Locks and group commit: readers and writers, one process per folder, shared transactions."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from filelock import BaseFileLock, FileLock, Timeout

from index.errors import StoreBusy
from index.files import store_errors


class ReadWriteLock:
    """Any number of readers or one writer, who precedes new readers. Not re-entrant."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._readers = 0
        self._writing = False
        self._writers_waiting = 0

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Holds the lock together with other readers."""
        with self._condition:
            # New readers queue behind a waiting writer: under a steady stream of searches the
            # number of readers would never reach zero, and the writer would starve.
            self._condition.wait_for(
                lambda: not self._writing and not self._writers_waiting
            )
            self._readers += 1
        try:
            yield
        finally:
            with self._condition:
                self._readers -= 1
                self._condition.notify_all()

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Holds the lock alone."""
        with self._condition:
            self._writers_waiting += 1
            try:
                self._condition.wait_for(
                    lambda: not self._writing and not self._readers
                )
            finally:
                # Also when the wait is interrupted: a count left behind would block every reader.
                self._writers_waiting -= 1
            self._writing = True
        try:
            yield
        finally:
            with self._condition:
                self._writing = False
                self._condition.notify_all()


def lock_folder(path: Path) -> BaseFileLock:
    """Takes the lock file `path`, without waiting; `release` frees it.

    The kernel frees it too when the process ends, however it ends. Raises StoreBusy when another
    process, or another open store of this one, holds it; StoreReadOnly; StoreError.
    """
    lock = FileLock(
        path,
        blocking=False,
        # A library may be closed by another thread than the one that opened it.
        thread_local=False,
        # A soft lock is a file that outlives a crash; a restarted service could not open its data.
        fallback_to_soft=False,
    )
    with store_errors("the lock of the data folder cannot be opened"):
        try:
            lock.acquire()
        except Timeout as error:
            # Inside, since Timeout is an OSError too.
            raise StoreBusy(
                "the data folder is in use by another process or another open library"
            ) from error
    return lock


Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(eq=False)
class _Request(Generic[Item, Result]):
    """One caller's items and, once committed, their results or the error."""

    items: Sequence[Item]
    results: Sequence[Result] = ()
    error: Exception | None = None
    done: bool = False


class GroupCommit(Generic[Item, Result]):
    """Group commit: the items of all callers that wait go into one call of `put`.

    A commit costs one fsync for any number of items, and an encoder's call is cheaper per item the
    more it gets. So whatever arrives while one commit runs forms the next.
    """

    def __init__(self, put: Callable[[Sequence[Item]], Sequence[Result]]) -> None:
        """`put` returns one result per item, in order, and stores all of its items or none."""
        self._put = put
        self._queue: list[_Request[Item, Result]] = []
        self._queue_lock = threading.Lock()
        self._commit_lock = threading.Lock()

    def __call__(self, items: Sequence[Item]) -> Sequence[Result]:
        """The results of these items, once they are stored. Raises what `put` raises for them."""
        request: _Request[Item, Result] = _Request(items)
        # Queued before the commit lock is taken: that is how the thread that holds it next finds
        # this request, and why no thread is needed whose only work is to commit.
        with self._queue_lock:
            self._queue.append(request)
        with self._commit_lock:
            # The thread that held the lock before may have committed this request with its own.
            if not request.done:
                self._commit_queue(request)
        if request.error is not None:
            raise request.error
        return request.results

    def _commit_queue(self, own: _Request[Item, Result]) -> None:
        with self._queue_lock:
            group = list(self._queue)
        try:
            self._commit(group)
        finally:
            # After a KeyboardInterrupt, only the interrupted caller's request leaves the queue:
            # the other callers still wait, and the next of them commits for all.
            with self._queue_lock:
                self._queue = [
                    request
                    for request in self._queue
                    if not request.done and request is not own
                ]

    def _commit(self, group: Sequence[_Request[Item, Result]]) -> None:
        items: list[Item] = []
        for request in group:
            items.extend(request.items)
        try:
            results = self._put(items)
        except Exception as error:
            if len(group) == 1:
                group[0].error = error
                group[0].done = True
                return
            # Nothing was stored. One by one, only the request at fault fails.
            for request in group:
                self._commit([request])
            return
        start = 0
        for request in group:
            end = start + len(request.items)
            request.results = results[start:end]
            request.done = True
            start = end
