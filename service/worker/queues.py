"""Bounded queues of work for the model, which runs their jobs in micro-batches.

worker.py drives the queues on the one thread that owns the model.
"""

from __future__ import annotations

import math
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Generic, TypeVar

from service.errors import ModelFailed, QueueFull

# The longest pause that the service asks a client for; the Python client waits for as long.
LONGEST_RETRY_AFTER_S = 60
LONGEST_STEP_S = 5.0

Item = TypeVar("Item")
Result = TypeVar("Result")
Job = TypeVar("Job")


class WorkQueue(ABC, Generic[Job]):
    """Jobs of one kind.

    Any thread may hold slots. The worker adds jobs under its lock and calls `step` on its thread.
    """

    def __init__(self, kind: str, *, queue_size: int, batch_size: int) -> None:
        self.kind = kind
        self.batch_size = batch_size
        self.slots_taken = 0
        self.virtual_time_s = 0.0  # model time charged to this queue, for fair sharing
        self.busy_s = 0.0  # model time this queue has really used
        self.done = 0  # jobs finished
        self._queue_size = queue_size
        self._waiting: deque[Job] = deque()
        self._lock = threading.Lock()

    @contextmanager
    def slots(self, count: int) -> Iterator[None]:
        """Holds slots for `count` jobs, from before they cost memory until their results are used.

        Raises QueueFull immediately instead of blocking.
        """
        with self._lock:
            if self.slots_taken + count > self._queue_size:
                raise self._full(count)
            self.slots_taken += count
        try:
            yield
        finally:
            with self._lock:
                self.slots_taken -= count

    def _full(self, count: int) -> QueueFull:
        mean_s = self.busy_s / max(1, self.done)
        seconds_to_empty = math.ceil(self.slots_taken * mean_s)
        return QueueFull(
            f"{self.slots_taken} of {self._queue_size} slots for {self.kind} are taken; "
            f"{count} more do not fit.",
            retry_after_s=min(LONGEST_RETRY_AFTER_S, max(1, seconds_to_empty)),
        )

    def add(self, jobs: Sequence[Job]) -> None:
        """Queues jobs."""
        self._waiting.extend(jobs)

    def has_work(self) -> bool:
        """Whether `step` has something to do."""
        return bool(self._waiting)

    @abstractmethod
    def step(self) -> None:
        """One small piece of work with the model.

        An error goes to whoever waits for the work; none is raised here.
        """

    @abstractmethod
    def fail(self, error: Exception) -> None:
        """Hands the error to everyone who waits."""


class BatchQueue(WorkQueue[tuple[Item, "Future[Result]"]]):
    """One result for each item.

    A batch is whatever waits when the model is free; no item waits for a batch to fill up.
    """

    def __init__(
        self,
        kind: str,
        run: Callable[[Sequence[Item]], Sequence[Result | Exception]],
        *,
        queue_size: int,
        batch_size: int,
        observe_batch: Callable[[str, int], None],
    ) -> None:
        """`run` returns a result or an error for each item, or raises one for all of them."""
        super().__init__(kind, queue_size=queue_size, batch_size=batch_size)
        self._run = run
        self._observe_batch = observe_batch

    def step(self) -> None:
        """Runs one batch; items cancelled by now are dropped before the model sees them."""
        batch: list[tuple[Item, Future[Result]]] = []
        size = self._step_size()
        while self._waiting and len(batch) < size:
            item, future = self._waiting.popleft()
            if future.set_running_or_notify_cancel():
                batch.append((item, future))
        if batch:
            self._observe_batch(self.kind, len(batch))
            self._run_batch(batch)

    def fail(self, error: Exception) -> None:
        """Hands the error to everyone who waits."""
        while self._waiting:
            _, future = self._waiting.popleft()
            if future.set_running_or_notify_cancel():
                future.set_exception(error)

    def _step_size(self) -> int:
        """How many items fit a step, by the time that they have taken so far."""
        # A step cannot be interrupted: callers of the other queues wait for all of it, and a
        # deadline that passes meanwhile ends nothing.
        if not self.done:
            return self.batch_size
        mean_s = self.busy_s / self.done
        fitting = int(LONGEST_STEP_S / max(mean_s, 1e-9))
        return max(1, min(self.batch_size, fitting))

    def _run_batch(self, batch: list[tuple[Item, Future[Result]]]) -> None:
        items = [item for item, _ in batch]
        futures = [future for _, future in batch]
        try:
            results = self._run(items)
            if len(results) != len(batch):
                message = f"{len(results)} results for {len(batch)} {self.kind}."
                raise ModelFailed(message)  # noqa: TRY301
        except Exception as error:
            if len(batch) == 1:
                futures[0].set_exception(error)
                self.done += 1
                return
            # One bad item must not cost its neighbours their results, so each is tried alone.
            for job in batch:
                self._run_batch([job])
        else:
            for future, result in zip(futures, results, strict=True):
                if isinstance(result, Exception):
                    future.set_exception(result)
                else:
                    future.set_result(result)
            self.done += len(batch)
