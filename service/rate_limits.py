"""How many requests and bytes each API key may send: counted in this process, by `limits`."""

from __future__ import annotations

import math
import time

from limits import RateLimitItem, RateLimitItemPerDay, RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

from service.errors import RateLimited


class RateLimits:
    """Counts by caller, in windows that begin with a caller's first request. Thread-safe.

    A limit that is None is not enforced.
    """

    def __init__(
        self, requests_per_minute: int | None, body_bytes_per_day: int | None
    ) -> None:
        self._requests = requests_per_minute and RateLimitItemPerMinute(
            requests_per_minute
        )
        self._bytes = body_bytes_per_day and RateLimitItemPerDay(body_bytes_per_day)
        if self._requests or self._bytes:
            self._limiter = FixedWindowRateLimiter(MemoryStorage())

    @property
    def counts_bytes(self) -> bool:
        """Whether bodies are counted at all."""
        return bool(self._bytes)

    def count_request(self, caller: str) -> None:
        """Raises RateLimited."""
        limit = self._requests
        if limit and not self._limiter.hit(limit, caller):
            raise self._refusal(limit, caller, "requests a minute")

    def check_body(self, caller: str, declared_bytes: int) -> None:
        """Counts nothing. Raises RateLimited for a body that would exceed the limit."""
        limit = self._bytes
        if limit and not self._limiter.test(limit, caller, cost=declared_bytes):
            raise self._refusal(limit, caller, "bytes a day")

    def count_bytes(self, caller: str, size_bytes: int) -> None:
        """Raises RateLimited."""
        limit = self._bytes
        if limit and not self._limiter.hit(limit, caller, cost=size_bytes):
            raise self._refusal(limit, caller, "bytes a day")

    def _refusal(self, limit: RateLimitItem, caller: str, unit: str) -> RateLimited:
        window = self._limiter.get_window_stats(limit, caller)
        left_s = window.reset_time - time.time()
        # No window has begun where the first body alone is too large.
        wait_s = math.ceil(left_s if left_s > 0 else limit.get_expiry())
        return RateLimited(
            f"This API key may send {limit.amount} {unit}.", retry_after_s=wait_s
        )
