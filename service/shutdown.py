"""Middleware: the answer to requests that still run when the grace period of a shutdown is over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import ShuttingDown
from service.problems import error_event, respond
from service.worker.worker import SHUTTING_DOWN


class CancelledAtShutdown:
    """Answers requests that uvicorn cancels; itself it would log each as a failure, with a 500."""

    def __init__(self, app: ASGIApp, is_stopping: Callable[[], bool]) -> None:
        self._app = app
        # Before that, who cancels a request is the task that it belongs to, which must see it.
        self._is_stopping = is_stopping

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        media_type: str | None = None  # of the response, once it has begun

        async def send_noted(message: Message) -> None:
            nonlocal media_type
            if message["type"] == "http.response.start":
                media_type = Headers(raw=message["headers"]).get("content-type", "")
            await send(message)

        try:
            await self._app(scope, receive, send_noted)
        except asyncio.CancelledError:
            if not self._is_stopping():
                raise
            request, error = Request(scope), ShuttingDown(SHUTTING_DOWN)
            # A peer that reads nothing keeps `send` waiting, and is cancelled a second time.
            with suppress(asyncio.CancelledError):
                if media_type is None:
                    response = await respond(request, error)
                    await response(scope, receive, send)
                elif media_type.startswith("text/event-stream"):
                    last = error_event(request, error)
                    await send({"type": "http.response.body", "body": last})
                # What else has begun must not look whole: uvicorn closes the connection.
