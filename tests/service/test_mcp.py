"""The tools of `/mcp` and of `precis mcp`, through the package's own client."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from PIL import Image

from precis_client.cli import main
from tests.clients.serving import served
from tests.service.conftest import Body, Start, assert_problem, ids, picture, uploaded
from tests.service.routes.test_access import make_key

TOOLS = {
    "add_image", "ask_images", "delete_image", "look_at_image", "search_images",
    "similar_images",
}  # fmt: skip
Call = Callable[..., Awaitable[Any]]


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with served(tmp_path / "data", keep="original") as url:
        yield url


def add(url: str, *colours: str, **headers: str) -> list[str]:
    with httpx.Client(base_url=url, headers=headers) as client:
        return ids(uploaded(client, *colours))


def run(transport: Any, session: Callable[[Client, Call], Awaitable[None]]) -> None:
    async def main() -> None:
        async with Client(transport) as client:

            async def call(tool: str, **arguments: Any) -> Any:
                result = await client.call_tool(tool, arguments)
                if result.is_error:
                    return result.content[0].text
                return result.structured_content or result.content

            await session(client, call)

    asyncio.run(main())


@asynccontextmanager
async def http(
    url: str, headers: dict[str, str] | None = None, query: str = ""
) -> AsyncIterator[Any]:
    async with (
        create_mcp_http_client(headers=headers) as client,
        streamable_http_client(f"{url}/mcp{query}", http_client=client) as streams,
    ):
        yield streams


def test_the_tools_over_http(url: str) -> None:
    red, blue = add(url, "red", "blue")

    async def session(client: Client, call: Call) -> None:
        assert {tool.name for tool in (await client.list_tools()).tools} == TOOLS
        hits = (await call("search_images", query="a blue thing", limit=1))["images"]
        assert ids(hits) == [blue]
        assert hits[0]["score"] > 0.9
        answer = await call("ask_images", question="What?", image_ids=[red, blue])
        assert answer["answer"] == "I see red blue."
        assert ids(answer["images"]) == [red, blue]
        assert ids((await call("similar_images", image_id=red))["images"]) == [blue]
        (content,) = await call("look_at_image", image_id=red)
        assert content.mime_type == "image/webp"
        with Image.open(io.BytesIO(base64.b64decode(content.data))) as seen:
            assert seen.size == (40, 30)
        data = base64.b64encode(picture("green")).decode()
        added = await call("add_image", data_base64=data, metadata={"a": 1})
        assert added["status"] == "created"
        assert (await call("delete_image", image_id=added["id"]))["status"] == "deleted"
        assert "No such image" in await call("delete_image", image_id=added["id"])
        assert "not base64" in await call("add_image", data_base64="@")
        broken = base64.b64encode(b"text").decode()
        assert "not an image" in await call("add_image", data_base64=broken)

    run(http(url), session)


def test_a_key_opens_what_it_opens_over_http(url: str, tmp_path: Path) -> None:
    httpx.put(f"{url}/collections/pets")
    (red,) = add(url, "red")
    reader = make_key(tmp_path / "data", "read")
    pets = make_key(tmp_path / "data", "write", "pets")
    data = base64.b64encode(picture("green")).decode()
    body: Body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    for headers in ({}, {"authorization": "Bearer wrong"}):
        refused = httpx.post(f"{url}/mcp", json=body, headers=headers)
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"] == "Bearer"

    async def reads(_: Client, call: Call) -> None:
        assert ids((await call("search_images", query="red"))["images"]) == [red]
        assert "scope write" in await call("add_image", data_base64=data)
        assert "scope write" in await call("delete_image", image_id=red)

    async def keeps_to_its_collection(_: Client, call: Call) -> None:
        assert (await call("add_image", data_base64=data))["status"] == "created"
        (green,) = (await call("search_images", query="red"))["images"]
        assert green["id"] != red

    async def finds_nothing(_: Client, call: Call) -> None:
        assert "collections alone" in await call("search_images", query="red")

    run(http(url, reader), reads)
    run(http(url, pets, "?collection=pets"), keeps_to_its_collection)
    run(http(url, pets), finds_nothing)


def test_the_tools_on_stdin_and_stdout(url: str) -> None:
    (red,) = add(url, "red")
    arguments = ["-m", "precis_client", "mcp", "--url", url]
    server = StdioServerParameters(
        command=sys.executable, args=arguments, cwd=str(Path(__file__).parents[2])
    )

    async def session(_: Client, call: Call) -> None:
        assert ids((await call("search_images", query="red"))["images"]) == [red]

    run(server, session)


def test_the_protocol_s_answers_are_plain_json(url: str) -> None:
    headers = {"accept": "application/json, text/event-stream"}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    response = httpx.post(f"{url}/mcp", json=body, headers=headers)
    assert response.status_code in (200, 400)
    assert json.loads(response.text)["jsonrpc"] == "2.0"


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "PUT"])
def test_no_stream_is_held_open_for_a_client(url: str, method: str) -> None:
    headers = {"accept": "application/json, text/event-stream"}
    response = httpx.request(method, f"{url}/mcp", headers=headers)
    assert response.status_code == 405
    assert response.headers["allow"] == "OPTIONS, POST"


def test_without_the_package_all_else_works(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.mcp_mount.find_spec", lambda _: None)
    monkeypatch.setattr("precis_client.commands.mcp.find_spec", lambda _: None)
    client = start()
    assert_problem(client.post("/mcp", json={}), 404)
    assert client.get("/images").status_code == 200
    result = CliRunner().invoke(main, ["mcp"])
    assert result.exit_code == 1
    assert (
        result.stderr
        == "Error: `precis mcp` needs an extra: pip install 'precis-client[mcp]'\n"
    )


def test_another_site_s_name_is_refused_on_loopback(url: str) -> None:
    headers = {"host": "example.org", "accept": "application/json, text/event-stream"}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    response = httpx.post(f"{url}/mcp", json=body, headers=headers)
    assert response.status_code == 421
