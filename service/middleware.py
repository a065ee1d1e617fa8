"""Around every request: its id, its trace, its line in the log, its time in the metrics, and a
limit on its body.

Knows nothing of routes. Plain ASGI, so that streams pass through untouched.
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
from service.problems import respond

log = logging.getLogger("service.access")

# Everything but a multipart upload is held in memory while it is read.
MAX_BODY_BYTES = 1024 * 1024
# Uploads of the largest size that may be in work at once; what more come is refused with 429.
HELD_UPLOADS = 4
_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_TRACEPARENT = re.compile(
    r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}"
)  # W3C Trace Context, 3.2


class RequestLog:
    """Gives each request an id (the caller's own if it has one), and measures and logs it."""

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
            # What no route knows shares a label, or a scanner could make labels without end.
            route = getattr(scope.get("route"), "path", "unknown")
            method = scope["method"] if scope["method"] in _METHODS else "unknown"
            self._metrics.http_seconds.labels(method, route, status).observe(spent_s)
            log.info(
                "%s %s %d %.1f ms request_id=%s%s",
                scope["method"],
                quote(scope["path"]),  # a line break in it must not begin a line of the log
                status,
                spent_s * 1000,
                request_id,
                f" traceparent={trace}" if _TRACEPARENT.fullmatch(trace) else "",
            )


class BodyLimit:
    """Bounds what bodies cost: each by its declared length and while it grows, and all uploads in
    work together.

    The framework's own limit answers in plain text where the length is declared; ours is a problem
    like any other.
    """

    def __init__(self, app: ASGIApp, max_upload_bytes: int, metrics: Metrics) -> None:
        self._app = app
        self._max_upload_bytes = max_upload_bytes
        self._metrics = metrics
        self._held_bytes = (
            0  # of uploads that are being read or worked on; only the event loop's thread counts
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        is_upload = headers.get("content-type", "").lower().startswith("multipart/form-data")
        limit = self._max_upload_bytes if is_upload else MAX_BODY_BYTES
        too_large = UploadTooLarge(f"The request's body is larger than {limit} bytes.")
        declared = headers.get("content-length", "")
        if declared.isdigit() and int(declared) > limit:
            response = await respond(Request(scope), too_large)
            await response(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            size = len(message.get("body", b""))
            received += size
            self._hold(size if is_upload else 0)
            if received > limit:
                raise too_large
            if size and self._held_bytes > HELD_UPLOADS * self._max_upload_bytes:
                raise QueueFull("Too many uploads are in work.", retry_after_s=1)
            return message

        try:
            await self._app(scope, counted, send)
        finally:
            self._hold(-received if is_upload else 0)

    def _hold(self, size_bytes: int) -> None:
        self._held_bytes += size_bytes
        self._metrics.upload_bytes_held.set(self._held_bytes)
