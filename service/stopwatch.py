"""Times of the stages of one request, in milliseconds.

Knows nothing of what the stages are.
"""

from __future__ import annotations

import time


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
