"""How many requests and bytes each API key may send: counted in this process, by `limits`."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from limits import RateLimitItem, RateLimitItemPerDay, RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

from service.errors import RateLimited


@dataclass(frozen=True)
class Limits:
    """What one caller may send; None is no limit."""

    requests_per_minute: int | None = None
    body_bytes_per_day: int | None = None


NO_LIMITS = Limits()


class RateLimits:
    """Counts by caller, in windows that begin with a caller's first request. Thread-safe."""

    def __init__(self, default: Limits) -> None:
        """`default` is for callers without limits of their own."""
        self._default = default
        self._limiter = FixedWindowRateLimiter(MemoryStorage())

    def of(self, caller: str, own: Limits = NO_LIMITS) -> CallerLimits:
        """The limits of a caller; what is None of its own is the default."""
        requests = own.requests_per_minute or self._default.requests_per_minute
        size_bytes = own.body_bytes_per_day or self._default.body_bytes_per_day
        return CallerLimits(
            self._limiter,
            caller,
            RateLimitItemPerMinute(requests) if requests else None,
            RateLimitItemPerDay(size_bytes) if size_bytes else None,
        )


@dataclass(frozen=True)
class CallerLimits:
    """What one caller may send, and has sent."""

    _limiter: FixedWindowRateLimiter
    _caller: str
    _requests: RateLimitItem | None
    _bytes: RateLimitItem | None

    @property
    def counts_bytes(self) -> bool:
        """Whether bodies are counted at all."""
        return self._bytes is not None

    def count_request(self) -> None:
        """Raises RateLimited."""
        limit = self._requests
        if limit and not self._limiter.hit(limit, self._caller):
            raise self._refusal(limit, "requests a minute")

    def check_body(self, declared_bytes: int) -> None:
        """Counts nothing. Raises RateLimited for a body that would exceed the limit."""
        limit = self._bytes
        if limit and not self._limiter.test(limit, self._caller, cost=declared_bytes):
            raise self._refusal(limit, "bytes a day")

    def count_bytes(self, size_bytes: int) -> None:
        """Raises RateLimited."""
        limit = self._bytes
        if limit and not self._limiter.hit(limit, self._caller, cost=size_bytes):
            raise self._refusal(limit, "bytes a day")

    def _refusal(self, limit: RateLimitItem, unit: str) -> RateLimited:
        window = self._limiter.get_window_stats(limit, self._caller)
        left_s = window.reset_time - time.time()
        # No window has begun where the first body alone is too large.
        wait_s = math.ceil(left_s if left_s > 0 else limit.get_expiry())
        return RateLimited(
            f"This API key may send {limit.amount} {unit}.", retry_after_s=wait_s
        )
