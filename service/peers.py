"""Limits on waiting for the peer of a connection: for its requests, and for it to read answers.

A connection costs its peer nothing; so whatever the service holds for one is held for a limited
time only.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import h11
from starlette.types import Message, Receive
from uvicorn.protocols.http.h11_impl import H11Protocol

from service.errors import RequestStalled


@dataclass(frozen=True)
class PeerLimits:
    """How long the service waits for a peer."""

    head_s: float = 10.0  # for a request's head, and for a body that nobody reads
    stall_s: float = 15.0  # for the next bytes of a body
    bytes_per_s: int = 4096  # a body that comes more slowly uses up `stall_s`
    # An upload that has been silent for so long is dropped if others need its place.
    yield_s: float = 1.0
    unread_s: float = 20.0  # for the peer to read what was sent


class Patience:
    """How long a body may keep the service waiting: a bucket that its bytes refill."""

    # One number for silence and for rate. A limit on silence alone lets a peer hold its place with
    # a byte now and then; a mean rate alone lets one that sent much at once be silent for hours.

    def __init__(self, limits: PeerLimits) -> None:
        self._limits = limits
        self.left_s = limits.stall_s

    def note(self, waited_s: float, size_bytes: int) -> None:
        """Takes off the time waited, and adds what the bytes are worth."""
        earned_s = size_bytes / self._limits.bytes_per_s
        self.left_s = min(self._limits.stall_s, self.left_s - waited_s + earned_s)


class Body:
    """A request's body on its way."""

    def __init__(self, receive: Receive, limits: PeerLimits) -> None:
        self.held_bytes = 0  # of this body, as its owner counts them
        self._receive = receive
        self._patience = Patience(limits)
        self._complete = False
        self._wait: asyncio.Timeout | None = None
        self._waiting_since = 0.0

    async def next(self) -> Message:
        """The next ASGI message. Raises RequestStalled."""
        # Behind a whole body only the end of the connection can come, however late.
        if self._complete:
            return await self._receive()
        clock = asyncio.get_running_loop().time
        self._waiting_since = clock()
        try:
            async with asyncio.timeout(self._patience.left_s) as self._wait:
                message = await self._receive()
        except TimeoutError as error:
            raise RequestStalled("The request's body came too slowly.") from error
        finally:
            self._wait = None
        size_bytes = len(message.get("body", b""))
        self._patience.note(clock() - self._waiting_since, size_bytes)
        self._complete = not message.get("more_body", False)
        return message

    def silent_s(self) -> float:
        """For how long the service has been waiting for the peer; 0 if it is not."""
        if self._wait is None:
            return 0.0
        return asyncio.get_running_loop().time() - self._waiting_since

    def drop(self) -> None:
        """Ends the wait for the peer; `next` raises RequestStalled."""
        if self._wait is not None:
            self._wait.reschedule(0.0)


class PatientProtocol(H11Protocol):
    """HTTP/1.1 for peers that may stall; uvicorn's own protocol waits for them without end."""

    limits = PeerLimits()

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._head_timer: asyncio.TimerHandle | None = None
        self._unread_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See asyncio.Protocol."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """See H11Protocol."""
        super().on_response_complete()
        self._watch()

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""
        super().pause_writing()
        self._unread_timer = self._cut_off_after(self.limits.unread_s)

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        super().resume_writing()
        self._stop_unread_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._stop_head_timer()
        self._stop_unread_timer()
        super().connection_lost(exc)

    def _watch(self) -> None:
        """Starts the timer when the peer owes the service something, and stops it when not."""
        if not self._owes_us():
            self._stop_head_timer()
        elif self._head_timer is None:
            # Not started again by bytes that come meanwhile: a head may not trickle in either.
            self._head_timer = self._cut_off_after(self.limits.head_s)

    def _owes_us(self) -> bool:
        if self.cycle is None:
            return True
        # While a request is answered, `Body` limits the wait for what it reads.
        if not self.cycle.response_complete:
            return False
        unparsed, _ = self.conn.trailing_data
        return bool(unparsed) or self.conn.their_state is h11.SEND_BODY

    def _cut_off_after(self, seconds: float) -> asyncio.TimerHandle:
        # Aborted, not closed: closing would first wait for the peer to read what was written.
        return self.loop.call_later(seconds, self.transport.abort)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _stop_unread_timer(self) -> None:
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None


def patient_protocol(limits: PeerLimits) -> type[PatientProtocol]:
    """The protocol with these limits, as uvicorn takes it: a class."""
    return type("PatientProtocol", (PatientProtocol,), {"limits": limits})
