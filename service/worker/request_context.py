"""The one who waits for an answer: until when, and whether they are still there.

Knows nothing of HTTP or of what is waited for.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from concurrent.futures import CancelledError, Future
from typing import Protocol, TypeVar

from service.errors import DeadlineExceeded, RequestCancelled

T = TypeVar("T")


class Cancellable(Protocol):
    """Work that can be called off; calling it off twice, or when it is done, does nothing."""

    def cancel(self) -> object:
        """Calls the work off if it has not begun."""
        ...


class RequestContext:
    """A deadline and a presence. Work waited for through a caller is called off when either ends."""

    def __init__(self, deadline_s: float) -> None:
        self._until = time.monotonic() + deadline_s
        self._deadline_s = deadline_s
        self._lock = threading.Lock()
        self._gone = False
        self._work: list[Cancellable] = []

    def leave(self) -> None:
        """Says that the caller has hung up: everything they wait for is called off."""
        with self._lock:
            self._gone = True
            work = list(self._work)
        for item in work:
            item.cancel()

    def remaining_s(self) -> float:
        """Seconds left, at least 0. Raises RequestCancelled."""
        if self._gone:
            raise RequestCancelled("The caller has hung up.")
        return max(0.0, self._until - time.monotonic())

    def expects(self, work: Cancellable) -> None:
        """From now on `work` is called off when the caller leaves."""
        with self._lock:
            if not self._gone:
                self._work.append(work)
                return
        work.cancel()

    def wait(self, futures: Iterable[Future[T]]) -> list[T]:
        """Results in order. On the first error, or at the deadline, the rest is called off.

        Raises what the work raised, DeadlineExceeded or RequestCancelled.
        """
        futures = list(futures)
        for future in futures:
            self.expects(future)
        try:
            return [future.result(self.remaining_s()) for future in futures]
        except TimeoutError as error:
            raise self.late() from error
        except CancelledError as error:
            raise RequestCancelled("The caller has hung up.") from error
        finally:
            for future in futures:
                future.cancel()

    def late(self) -> DeadlineExceeded:
        """The error to raise when the deadline has passed."""
        return DeadlineExceeded(f"The request took longer than {self._deadline_s:g} s.")


# Times of the stages of one request, in milliseconds.


class Stopwatch:
    """Runs from its making; `lap` ends a stage."""

    def __init__(self) -> None:
        self._started = self._last = time.perf_counter()
        self._laps_ms: dict[str, float] = {}

    def lap(self, stage: str) -> None:
        """Adds the time since the last lap to `stage`."""
        now = time.perf_counter()
        self._laps_ms[stage] = self._laps_ms.get(stage, 0.0) + (now - self._last) * 1000
        self._last = now

    def timings_ms(self) -> dict[str, float]:
        """Milliseconds by stage, and in all."""
        return {
            **{stage: round(spent_ms, 3) for stage, spent_ms in self._laps_ms.items()},
            "total": round((time.perf_counter() - self._started) * 1000, 3),
        }
