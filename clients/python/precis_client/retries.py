"""Retries as a wrapper over an httpx transport, for when the service is busy, not ready or late.

Every request may be sent again: 429 and 503 mean that the service has not begun to work on it, and
what was done before a 504 is not done twice.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

import httpx

BUSY = frozenset[int]({httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE})
LATE = frozenset[int]({httpx.codes.GATEWAY_TIMEOUT})


@dataclass(frozen=True)
class RetryPolicy:
    """How often to try again, and how long to wait in between."""

    attempts: int = 8  # requests in all, the first one included
    # Doubles with each attempt, unless the service names a time.
    first_wait_s: float = 0.25
    # If the service names a longer time than this, its answer is returned at once.
    longest_wait_s: float = 60.0  # the service names no longer one
    statuses: frozenset[int] = BUSY | LATE

    def waits_s(self) -> Iterator[float]:
        """The pauses between attempts if the service names no time."""
        wait_s = self.first_wait_s
        for _ in range(self.attempts - 1):
            yield min(wait_s, self.longest_wait_s)
            wait_s = min(2 * wait_s, self.longest_wait_s)

    def pause_s(
        self, response: httpx.Response, default_s: float | None
    ) -> float | None:
        """Seconds to wait before the next attempt; None if `response` is final."""
        if response.status_code not in self.statuses or default_s is None:
            return None
        named_s = retry_after_s(response)
        pause_s = default_s if named_s is None else named_s
        return pause_s if pause_s <= self.longest_wait_s else None


def retry_after_s(response: httpx.Response) -> float | None:
    """The Retry-After header (RFC 9110, 10.2.3) in seconds from now.

    None if it is missing or unreadable.
    """
    value = response.headers.get("Retry-After")
    if value is None:
        return None
    if value.isdecimal():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


class RetryTransport(httpx.BaseTransport):
    """A transport that tries again while the service is busy or late."""

    def __init__(self, inner: httpx.BaseTransport, policy: RetryPolicy) -> None:
        self._inner = inner
        self._policy = policy

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Sends `request` until the answer is final or the policy gives up."""
        waits_s = self._policy.waits_s()
        while True:
            response = self._inner.handle_request(request)
            pause_s = self._policy.pause_s(response, next(waits_s, None))
            if pause_s is None:
                return response
            response.read()  # so that the connection can be used again
            time.sleep(pause_s)

    def close(self) -> None:
        """Closes the inner transport."""
        self._inner.close()


class AsyncRetryTransport(httpx.AsyncBaseTransport):
    """The same for the asynchronous client."""

    def __init__(self, inner: httpx.AsyncBaseTransport, policy: RetryPolicy) -> None:
        self._inner = inner
        self._policy = policy

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Sends `request` until the answer is final or the policy gives up."""
        waits_s = self._policy.waits_s()
        while True:
            response = await self._inner.handle_async_request(request)
            pause_s = self._policy.pause_s(response, next(waits_s, None))
            if pause_s is None:
                return response
            await response.aread()  # so that the connection can be used again
            await asyncio.sleep(pause_s)

    async def aclose(self) -> None:
        """Closes the inner transport."""
        await self._inner.aclose()
