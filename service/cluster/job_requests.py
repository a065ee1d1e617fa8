"""Requests about jobs, which one replica answers for all: it has the file of jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import parse_qs

import httpx
from fastapi import FastAPI
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from service.access import AccessControl
from service.dependencies import bearer_key
from service.errors import ServiceError
from service.problems import respond

_OF_ONE_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "host"})
# What FastAPI reads as false.
_FALSE = frozenset({"0", "false", "f", "no", "n", "off"})


@dataclass(frozen=True)
class HttpRequest:
    """A whole request."""

    method: str
    target: str  # path and query, as they were sent
    headers: list[tuple[str, str]]
    body: bytes


@dataclass(frozen=True)
class HttpResponse:
    """A whole response."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


class JobsElsewhere:
    """Middleware: another process answers the requests about jobs.

    It belongs inside the middleware that limits bodies and gives requests their ids.
    """

    def __init__(
        self,
        app: ASGIApp,
        forward: Callable[[HttpRequest], Awaitable[HttpResponse]],
        access: AccessControl,
    ) -> None:
        self._app = app
        self._forward = forward
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        if scope["type"] != "http" or not is_about_jobs(scope):
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            # Nobody without a key has a body read. What the key covers, the other process checks.
            self._access.access_of(bearer_key(request))
            answer = await self._forward(await _whole(request))
        except ServiceError as error:
            response: Response = await respond(request, error)
        except ClientDisconnect:
            return
        else:
            response = Response(answer.body, answer.status)
            response.raw_headers = [
                (name.encode("latin-1"), value.encode("latin-1"))
                for name, value in answer.headers
            ]
        await response(scope, receive, send)


class JobResponder:
    """Answers such requests through the application, in its own process."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._ended = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begins the application's lifespan; does nothing the second time."""
        if self._running is None:
            begun = asyncio.get_running_loop().create_future()
            self._running = asyncio.create_task(self._run(begun))
            await begun

    async def close(self) -> None:
        """Ends it."""
        self._ended.set()
        if self._running is not None:
            await self._running

    async def _run(self, begun: asyncio.Future[None]) -> None:
        # A task of its own: a lifespan must end in the task that began it.
        try:
            async with self._app.router.lifespan_context(self._app):
                begun.set_result(None)
                await self._ended.wait()
        except Exception as error:
            if begun.done():
                raise
            begun.set_exception(error)

    async def respond(self, request: HttpRequest) -> HttpResponse:
        """The application's answer."""
        transport = httpx.ASGITransport(self._app, raise_app_exceptions=False)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://jobs"
        ) as client:
            response = await client.request(
                request.method,
                request.target,
                headers=request.headers,
                content=request.body,
            )
        headers = _kept(response.headers.multi_items())
        return HttpResponse(response.status_code, headers, response.content)


def is_about_jobs(scope: Scope) -> bool:
    """Whether a request makes a job, or is about one."""
    path = scope["path"]
    if path == "/jobs" or path.startswith("/jobs/"):
        return True
    if path != "/images" or scope["method"] != "POST":
        return False
    waits = parse_qs(scope["query_string"].decode("latin-1")).get("wait", [])
    # Of several, FastAPI takes the last.
    return bool(waits) and waits[-1].lower() in _FALSE


async def _whole(request: Request) -> HttpRequest:
    scope = request.scope
    target = scope.get("raw_path", scope["path"].encode()).decode("latin-1")
    if query := scope["query_string"].decode("latin-1"):
        target = f"{target}?{query}"
    headers = [
        pair for pair in _kept(request.headers.items()) if pair[0] != "x-request-id"
    ]
    # The log of either process names the request alike.
    headers.append(("x-request-id", request.state.request_id))
    return HttpRequest(request.method, target, headers, await request.body())


def _kept(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [pair for pair in headers if pair[0].lower() not in _OF_ONE_HOP]
