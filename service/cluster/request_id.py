"""The header X-Request-ID behind Ray Serve's proxy."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class ProxysRequestId:
    """Leaves the header to the proxy, which adds it to every response and never looks for one.

    Its id is the one that it passes on in the request, and so the application's too, unless the
    application refuses a client's own: the proxy's header then still has that.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""

        async def send_without_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                del MutableHeaders(scope=message)["X-Request-ID"]
            await send(message)

        await self._app(scope, receive, send_without_id)
