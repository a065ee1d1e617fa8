"""Lanes: work of one kind that waits for the model in a bounded queue and goes through it in
micro-batches.

Knows nothing of threads; worker.py drives the lanes, on the one thread that owns the model.
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

Item = TypeVar("Item")
Result = TypeVar("Result")
Job = TypeVar("Job")


class WorkQueue(ABC, Generic[Job]):
    """Jobs of one kind. Any thread may hold places; the worker adds under its lock and takes turns
    on its thread.
    """

    def __init__(self, what: str, *, queue_size: int, batch_size: int) -> None:
        self.what = what
        self.batch_size = batch_size
        self.places_taken = 0
        self.share_s = (
            0.0  # model time charged to this lane, by which the worker shares out the model
        )
        self.busy_s = 0.0  # model time it really had
        self.done = 0  # jobs finished
        self._queue_size = queue_size
        self._waiting: deque[Job] = deque()
        self._door = threading.Lock()

    @contextmanager
    def places(self, count: int) -> Iterator[None]:
        """Holds places for `count` jobs, from before they cost memory until their results are used.

        Who does not fit is refused at once and not kept waiting. Raises QueueFull.
        """
        with self._door:
            if self.places_taken + count > self._queue_size:
                seconds_to_empty = self.places_taken * self.busy_s / max(1, self.done)
                raise QueueFull(
                    f"{self.places_taken} of {self._queue_size} places for {self.what} are taken; "
                    f"{count} more do not fit.",
                    retry_after_s=min(60, max(1, math.ceil(seconds_to_empty))),
                )
            self.places_taken += count
        try:
            yield
        finally:
            with self._door:
                self.places_taken -= count

    def add(self, jobs: Sequence[Job]) -> None:
        """Queues jobs."""
        self._waiting.extend(jobs)

    def has_work(self) -> bool:
        """Whether a turn would do anything."""
        return bool(self._waiting)

    @abstractmethod
    def turn(self) -> None:
        """One small piece of work with the model. Every error goes to those who wait for the work,
        none comes out.
        """

    @abstractmethod
    def fail(self, error: Exception) -> None:
        """Gives everyone who waits the error."""


class BatchLane(WorkQueue[tuple[Item, "Future[Result]"]]):
    """One result for each item. A batch is what waits when the model is free: nobody waits for one
    to fill.
    """

    def __init__(
        self,
        what: str,
        run: Callable[[Sequence[Item]], Sequence[Result]],
        *,
        queue_size: int,
        batch_size: int,
        observe_batch: Callable[[str, int], None],
    ) -> None:
        super().__init__(what, queue_size=queue_size, batch_size=batch_size)
        self._run = run
        self._observe_batch = observe_batch

    def turn(self) -> None:
        """One batch; whoever has called off their item by now does not cost the model anything."""
        batch: list[tuple[Item, Future[Result]]] = []
        while self._waiting and len(batch) < self.batch_size:
            item, future = self._waiting.popleft()
            if future.set_running_or_notify_cancel():
                batch.append((item, future))
        if batch:
            self._observe_batch(self.what, len(batch))
            self._work_off(batch)

    def fail(self, error: Exception) -> None:
        """Gives everyone who waits the error."""
        while self._waiting:
            _, future = self._waiting.popleft()
            if future.set_running_or_notify_cancel():
                future.set_exception(error)

    def _work_off(self, batch: list[tuple[Item, Future[Result]]]) -> None:
        try:
            results = self._run([item for item, _ in batch])
            if len(results) != len(batch):
                raise ModelFailed(f"{len(results)} results for {len(batch)} {self.what}.")  # noqa: TRY301
        except Exception as error:
            if len(batch) > 1:
                for job in batch:  # one bad item must not cost its neighbours their results
                    self._work_off([job])
            else:
                batch[0][1].set_exception(error)
                self.done += 1
        else:
            for (_, future), result in zip(batch, results, strict=True):
                future.set_result(result)
            self.done += len(batch)
