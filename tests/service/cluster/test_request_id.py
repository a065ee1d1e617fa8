"""The id of a request behind Ray Serve's proxy, which adds the header itself."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from service.cluster.request_id import ProxysRequestId


def test_the_header_is_left_to_the_proxy() -> None:
    async def answer(_: Request) -> PlainTextResponse:
        return PlainTextResponse("", headers={"X-Request-ID": "a", "X-Other": "b"})

    app = Starlette(routes=[Route("/", answer)])
    app.add_middleware(ProxysRequestId)
    headers = TestClient(app).get("/").headers
    assert "X-Request-ID" not in headers
    assert headers["X-Other"] == "b"
