"""`/mcp`: the tools of a library for hosts of the Model Context Protocol, inside the service.

A tool is a client of the HTTP interface, without a socket between: it sends the caller's own key.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from anyio import Lock, create_task_group, sleep_forever, to_thread
from anyio.abc import TaskGroup, TaskStatus
from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from service.dependencies import access_of, bearer_key
from service.errors import NotAuthorized
from service.problems import respond
from service.settings import Settings

if TYPE_CHECKING:
    from mcp.server.mcpserver import MCPServer

    from precis_client.async_client import AsyncPrecis

PATH = "/mcp"
_INSIDE = "http://localhost"


class Mcp:
    """The mounted server, which is made for the first request.

    The package takes a second of the CPU to import, which a start need not wait for.
    """

    def __init__(self, app: FastAPI, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        self._lock: Lock
        self._tasks: TaskGroup
        self._handler: ASGIApp | None = None
        app.router.routes.append(Route(PATH, endpoint=_Keyed(self._running_handler)))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serves while the block lasts; once only."""
        self._lock = Lock()
        async with create_task_group() as self._tasks:
            yield
            self._tasks.cancel_scope.cancel()

    async def _running_handler(self) -> ASGIApp:
        async with self._lock:
            if self._handler is None:
                server, handler = await to_thread.run_sync(self._build)
                # In a task of its own: one and the same must begin the server's work and end it,
                # and requests end sooner.
                await self._tasks.start(self._run, server)
                self._handler = handler
        return self._handler

    def _build(self) -> tuple[MCPServer[Any], ASGIApp]:
        from precis_client.mcp_server import build_server

        server = build_server(self._client)
        # Without sessions: a request holds nothing once it is answered.
        handler = server.streamable_http_app(
            streamable_http_path=PATH,
            stateless_http=True,
            json_response=True,
            max_request_body_size=self._settings.max_upload_bytes,
            host=self._settings.host,
        )
        return server, handler

    @staticmethod
    async def _run(server: MCPServer[Any], *, task_status: TaskStatus[None]) -> None:
        async with server.session_manager.run():
            task_status.started()
            await sleep_forever()

    @asynccontextmanager
    async def _client(self, context: Any) -> AsyncIterator[AsyncPrecis]:
        from httpx import ASGITransport

        from precis_client.async_client import AsyncPrecis

        request: Request = context.request_context.request
        transport = ASGITransport(self._app, raise_app_exceptions=False)
        async with AsyncPrecis(
            _INSIDE,
            # Without a key none: the one in the environment is for a client of its own.
            api_key=bearer_key(request) or "",
            collection=request.query_params.get("collection"),
            timeout_s=self._settings.deadline_s,
            transport=transport,
        ) as precis:
            yield precis


class _Keyed:
    """Lets nobody in without a key; what a key may do, the routes behind the tools decide.

    Takes POST alone: without sessions there is nothing to send on a stream of its own (GET), which
    would be held open for as long as its client likes, nor to end (DELETE).
    """

    def __init__(self, handler: Callable[[], Awaitable[ASGIApp]]) -> None:
        self._handler = handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        request = Request(scope)
        refusal: Exception | None = None
        try:
            access_of(request)
        except NotAuthorized as error:
            refusal = error
        else:
            if request.method != "POST":
                status = HTTPStatus.METHOD_NOT_ALLOWED
                refusal = HTTPException(status, headers={"Allow": "POST"})
        if refusal is not None:
            response = await respond(request, refusal)
            await response(scope, receive, send)
            return
        handler = await self._handler()
        await handler(scope, receive, send)


def mount_mcp(app: FastAPI, settings: Settings) -> Mcp | None:
    """Adds the route, where the package `mcp` is installed."""
    return None if find_spec("mcp") is None else Mcp(app, settings)
