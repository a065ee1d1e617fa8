"""The context of one request: its deadline, its cancellation, and the time of its stages."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError, Future
from typing import Protocol, TypeVar

from service.errors import DeadlineExceeded, RequestCancelled

T = TypeVar("T")

# Called with the name of a stage, its start and its end, in nanoseconds of Unix time.
ObserveStage = Callable[[str, int, int], None]


class Cancellable(Protocol):
    """Work that can be cancelled; to cancel it twice, or when it is done, has no effect."""

    def cancel(self) -> object:
        """Cancels the work."""
        ...


class RequestContext:
    """A deadline, and whether the client is still connected.

    The work of a request is cancelled when the deadline passes or the client disconnects.
    """

    def __init__(self, deadline_s: float) -> None:
        self._until = time.monotonic() + deadline_s
        self._deadline_s = deadline_s
        self._lock = threading.Lock()
        self._cancelled = False
        self._work: list[Cancellable] = []

    def cancel(self) -> None:
        """Cancels all tracked work, and all that will be tracked."""
        with self._lock:
            self._cancelled = True
            work = list(self._work)
        for item in work:
            item.cancel()

    def remaining_s(self) -> float:
        """Seconds until the deadline, at least 0. Raises RequestCancelled."""
        if self._cancelled:
            raise RequestCancelled
        return max(0.0, self._until - time.monotonic())

    def track(self, work: Cancellable) -> None:
        """From now on `work` is cancelled with the request."""
        with self._lock:
            if not self._cancelled:
                self._work.append(work)
                return
        work.cancel()

    def wait(self, futures: Iterable[Future[T]]) -> list[T]:
        """Results in order. On the first error, or at the deadline, the rest is cancelled.

        Raises what the work raised, DeadlineExceeded or RequestCancelled.
        """
        futures = list(futures)
        for future in futures:
            self.track(future)
        try:
            return [future.result(self.remaining_s()) for future in futures]
        except TimeoutError as error:
            raise self.deadline_exceeded() from error
        except CancelledError as error:
            raise RequestCancelled from error
        finally:
            for future in futures:
                future.cancel()

    def outcomes(self, futures: Iterable[Future[T]]) -> list[T | Exception]:
        """The result or the error of each, in order.

        At the deadline, or when the client disconnects, the work that has not begun is cancelled,
        and its error is DeadlineExceeded or RequestCancelled. Work that has begun cannot be
        stopped; it is waited for, since its result is paid for.
        """
        futures = list(futures)
        for future in futures:
            self.track(future)
        outcomes: list[T | Exception] = []
        for future in futures:
            outcome = self._outcome(future)
            outcomes.append(outcome)
        return outcomes

    def _outcome(self, future: Future[T]) -> T | Exception:
        try:
            error = future.exception(self.remaining_s())
        except (TimeoutError, CancelledError, RequestCancelled) as end:
            if future.cancel():
                is_late = isinstance(end, TimeoutError)
                return self.deadline_exceeded() if is_late else RequestCancelled()
            error = future.exception()
        if error is None:
            return future.result()
        return error if isinstance(error, Exception) else RequestCancelled()

    def deadline_exceeded(self) -> DeadlineExceeded:
        """The error to raise when the deadline has passed."""
        return DeadlineExceeded(f"The request took longer than {self._deadline_s:g} s.")


class Stopwatch:
    """Times the stages of a request; it runs from its creation, and `lap` ends a stage."""

    def __init__(self, observe: ObserveStage = lambda *_: None) -> None:
        """`observe` is called for each stage that has ended; laps of one stage are one."""
        self._observe = observe
        self._started_ns = time.time_ns()
        self._started = time.perf_counter()
        self._last = self._started
        self._laps_ms: dict[str, float] = {}
        self._stage: tuple[str, float] | None = None  # of the last laps, and its start

    def lap(self, stage: str) -> None:
        """Adds the time since the last lap to `stage`."""
        now = time.perf_counter()
        lap_ms = (now - self._last) * 1000
        self._laps_ms[stage] = self._laps_ms.get(stage, 0.0) + lap_ms
        if self._stage is None or self._stage[0] != stage:
            self.report()
            self._stage = (stage, self._last)
        self._last = now

    def report(self) -> None:
        """Tells the observer of the stage that the last laps were of; no more will come."""
        if self._stage is not None:
            stage, started = self._stage
            self._stage = None
            self._observe(stage, self._unix_ns(started), self._unix_ns(self._last))

    def _unix_ns(self, seconds: float) -> int:
        return self._started_ns + int((seconds - self._started) * 1e9)

    def timings_ms(self) -> dict[str, float]:
        """Milliseconds by stage, and in total."""
        self.report()
        total_ms = (time.perf_counter() - self._started) * 1000
        timings_ms = {**self._laps_ms, "total": total_ms}
        return {stage: round(spent_ms, 3) for stage, spent_ms in timings_ms.items()}
