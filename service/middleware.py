"""Middleware: request ids, traces, the access log, request metrics, and limits on bodies.

It is plain ASGI, so that streams pass through unbuffered.
"""

from __future__ import annotations

import logging
import re
import time
import uuid
from urllib.parse import quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import QueueFull, UploadTooLarge
from service.metrics import Metrics
from service.peers import Body, PeerLimits
from service.problems import respond

log = logging.getLogger("service.access")

# A body other than a multipart upload is held in memory.
MAX_BODY_BYTES = 1024 * 1024
# How many uploads of the largest size may be in progress at once; more are refused with 429.
HELD_UPLOADS = 4
# Their JSON may hold pictures, so it is limited and counted as an upload is.
PATHS_WITH_DATA_URIS = frozenset({"/v1/chat/completions", "/v1/responses", "/mcp"})
_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
# W3C Trace Context, section 3.2.
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


class RequestLog:
    """Gives each request an id (the client's own if it sent one), and times and logs it."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        offered = headers.get("x-request-id", "")
        request_id = offered if _REQUEST_ID.fullmatch(offered) else uuid.uuid4().hex
        trace = headers.get("traceparent", "")
        scope.setdefault("state", {})["request_id"] = request_id
        status = 500
        started = time.perf_counter()

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                response_headers = MutableHeaders(scope=message)
                response_headers["X-Request-ID"] = request_id
                if _TRACEPARENT.fullmatch(trace):
                    response_headers["traceparent"] = trace
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        finally:
            spent_s = time.perf_counter() - started
            # Unknown addresses share one label; otherwise a scanner could create any number.
            route = getattr(scope.get("route"), "path", "unknown")
            method = scope["method"] if scope["method"] in _METHODS else "unknown"
            self._metrics.http_seconds.labels(method, route, status).observe(spent_s)
            log.info(
                "%s %s %d %.1f ms request_id=%s%s",
                scope["method"],
                quote(
                    scope["path"]
                ),  # a line break in it must not start a new line of the log
                status,
                spent_s * 1000,
                request_id,
                f" traceparent={trace}" if _TRACEPARENT.fullmatch(trace) else "",
            )


class HeadAsGet:
    """Answers HEAD as GET without the body; the framework would answer 405."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def send_without_body(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        # In place, since routing notes the route in this very dictionary, for the log.
        scope["method"] = "GET"
        try:
            await self._app(scope, receive, send_without_body)
        finally:
            scope["method"] = "HEAD"


class BodyLimit:
    """Limits each body, by its declared length and as it arrives, and all uploads in total.

    The framework's own limit would answer in plain text; this one answers with a problem.
    """

    def __init__(
        self,
        app: ASGIApp,
        max_upload_bytes: int,
        metrics: Metrics,
        peers: PeerLimits,
    ) -> None:
        self._app = app
        self._max_upload_bytes = max_upload_bytes
        self._metrics = metrics
        self._peers = peers
        # Uploads in progress and their bytes; only the event loop's thread changes either.
        self._uploads: set[Body] = set()
        self._held_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        content_type = headers.get("content-type", "").lower()
        is_multipart = content_type.startswith("multipart/form-data")
        is_upload = is_multipart or scope["path"] in PATHS_WITH_DATA_URIS
        limit = self._max_upload_bytes if is_upload else MAX_BODY_BYTES
        too_large = UploadTooLarge(f"The request's body is larger than {limit} bytes.")
        declared = headers.get("content-length", "")
        if declared.isdigit() and int(declared) > limit:
            response = await respond(Request(scope), too_large)
            await response(scope, receive, send)
            return
        body = Body(receive, self._peers)
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await body.next()
            size = len(message.get("body", b""))
            received += size
            self._metrics.request_body_bytes.inc(size)
            if received > limit:
                raise too_large
            if is_upload and size:
                self._hold(body, size)
            return message

        try:
            await self._app(scope, counted, send)
        finally:
            self._release(body)

    def _hold(self, body: Body, size: int) -> None:
        """Counts bytes of an upload. Raises QueueFull if all uploads together hold too many."""
        room = HELD_UPLOADS * self._max_upload_bytes - size
        if self._held_bytes > room:
            self._drop_silent(room)
        self._uploads.add(body)
        body.held_bytes += size
        self._count(size)
        if self._held_bytes > room + size:
            raise QueueFull("Too many uploads are in progress.", retry_after_s=1)

    def _drop_silent(self, room: int) -> None:
        """Ends uploads whose peers are silent, the longest first, until the others have room."""
        silent = [
            body for body in self._uploads if body.silent_s() >= self._peers.yield_s
        ]
        silent.sort(key=Body.silent_s, reverse=True)
        for body in silent:
            if self._held_bytes <= room:
                return
            body.drop()
            self._release(body)

    def _release(self, body: Body) -> None:
        self._uploads.discard(body)
        self._count(-body.held_bytes)
        body.held_bytes = 0

    def _count(self, size: int) -> None:
        self._held_bytes += size
        self._metrics.upload_bytes_held.set(self._held_bytes)
