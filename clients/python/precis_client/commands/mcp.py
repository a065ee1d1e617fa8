"""`precis mcp`: the tools of a library on stdin and stdout, for a host that starts programs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import Any

import click

from precis_client.async_client import AsyncPrecis
from precis_client.commands.options import connection_options


@click.command()
@connection_options
def mcp(url: str, api_key: str | None, collection: str | None) -> None:
    """Serve a library's tools to a host of the Model Context Protocol, on stdin and stdout."""
    if find_spec("mcp") is None:
        raise click.ClickException(
            "`precis mcp` needs an extra: pip install 'precis-client[mcp]'"
        )
    from precis_client.mcp_server import build_server

    @asynccontextmanager
    async def connect(_: Any) -> AsyncIterator[AsyncPrecis]:
        async with AsyncPrecis(url, api_key=api_key, collection=collection) as precis:
            yield precis

    build_server(connect).run("stdio")
