"""`/mcp`: the tools of a library for hosts of the Model Context Protocol, inside the service.

A tool is a client of the HTTP interface, without a socket between: it sends the caller's own key.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.util import find_spec
from typing import Any

import httpx
from fastapi import FastAPI, Request
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from precis_client.async_client import AsyncPrecis
from service.dependencies import access_of, bearer_key
from service.errors import NotAuthorized
from service.problems import respond
from service.settings import Settings

PATH = "/mcp"
_INSIDE = "http://localhost"


class Mcp:
    """The mounted server."""

    def __init__(self, app: FastAPI, settings: Settings) -> None:
        from precis_client.mcp_server import build_server

        self._app = app
        self._deadline_s = settings.deadline_s
        self._server = build_server(self._client)
        # Without sessions: a request holds nothing once it is answered.
        handler = self._server.streamable_http_app(
            streamable_http_path=PATH,
            stateless_http=True,
            json_response=True,
            max_request_body_size=settings.max_upload_bytes,
            host=settings.host,
        )
        app.router.routes.append(Route(PATH, endpoint=_Keyed(handler)))

    def running(self) -> AbstractAsyncContextManager[None]:
        """Serves while the block lasts; once only."""
        return self._server.session_manager.run()

    @asynccontextmanager
    async def _client(self, context: Any) -> AsyncIterator[AsyncPrecis]:
        request: Request = context.request_context.request
        transport = httpx.ASGITransport(self._app, raise_app_exceptions=False)
        async with AsyncPrecis(
            _INSIDE,
            # Without a key none: the one in the environment is for a client of its own.
            api_key=bearer_key(request) or "",
            collection=request.query_params.get("collection"),
            timeout_s=self._deadline_s,
            transport=transport,
        ) as precis:
            yield precis


class _Keyed:
    """Lets nobody in without a key; what a key may do, the routes behind the tools decide."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        request = Request(scope)
        try:
            access_of(request)
        except NotAuthorized as error:
            response = await respond(request, error)
            await response(scope, receive, send)
            return
        await self._app(scope, receive, send)


def mount_mcp(app: FastAPI, settings: Settings) -> Mcp | None:
    """Adds the route, where the package `mcp` is installed."""
    return None if find_spec("mcp") is None else Mcp(app, settings)
