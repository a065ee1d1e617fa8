"""The tools of a library for a host of the Model Context Protocol, over the HTTP interface.

The same tools serve `precis mcp` and a service's own `/mcp`, which differ in how they reach the
service. So a key opens here just what it opens there.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from mcp.server.mcpserver import Context, Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations

from precis_client.async_client import AsyncPrecis
from precis_client.errors import PrecisError
from precis_client.results import Hit
from precis_client.uploads import PictureUpload

Connect = Callable[[Context[Any, Any]], AbstractAsyncContextManager[AsyncPrecis]]
Body = dict[str, Any]

INSTRUCTIONS = (
    "A library of images. Search it by text, ask about images from what is stored of them, look at"
    " one, or find others like it. Images are named by their `id`."
)
_READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)
_ADDS = ToolAnnotations(
    read_only_hint=False,
    destructive_hint=False,
    idempotent_hint=True,
    open_world_hint=False,
)
_DELETES = ToolAnnotations(
    read_only_hint=False,
    destructive_hint=True,
    idempotent_hint=True,
    open_world_hint=False,
)


def build_server(connect: Connect) -> MCPServer[Any]:
    """A server whose tools reach the service through the client of `connect`."""
    server: MCPServer[Any] = MCPServer("precis", instructions=INSTRUCTIONS)
    tools = _Tools(connect)
    for tool in (
        tools.search_images,
        tools.ask_images,
        tools.similar_images,
    ):
        server.tool(annotations=_READS)(tool)
    server.tool(annotations=_READS, structured_output=False)(tools.look_at_image)
    server.tool(annotations=_ADDS)(tools.add_image)
    server.tool(annotations=_DELETES)(tools.delete_image)
    return server


class _Tools:
    """The tools. Their docstrings and parameters are what the host's model reads."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect

    async def search_images(
        self, context: Context[Any, Any], query: str, limit: int = 10
    ) -> Body:
        """Find images by what they show, best first, each with its id, score and metadata."""
        async with self._client(context) as precis:
            hits = await precis.search(query, limit=limit)
        return {"images": [_hit(hit) for hit in hits]}

    async def ask_images(
        self,
        context: Context[Any, Any],
        question: str,
        image_ids: list[str] | None = None,
        limit: int = 1,
    ) -> Body:
        """Answer a question about the named images, or about the `limit` that fit it best."""
        async with self._client(context) as precis:
            answer = await precis.ask(question, image_ids=image_ids, limit=limit)
        images = [dataclasses.asdict(source) for source in answer.images]
        return {"answer": answer.answer, "images": images}

    async def similar_images(
        self, context: Context[Any, Any], image_id: str, limit: int = 10
    ) -> Body:
        """Find the other images that resemble a stored one, best first."""
        async with self._client(context) as precis:
            hits = await precis.similar(image_id, limit=limit)
        return {"images": [_hit(hit) for hit in hits]}

    async def look_at_image(
        self, context: Context[Any, Any], image_id: str
    ) -> list[Any]:
        """Get the picture that was kept of an image: of the original, or else a thumbnail."""
        async with self._client(context) as precis:
            picture = await precis.view(image_id)
        return [Image(data=picture, format="webp")]

    async def add_image(
        self,
        context: Context[Any, Any],
        data_base64: str,
        filename: str = "image",
        metadata: dict[str, Any] | None = None,
    ) -> Body:
        """Store a picture (JPEG, PNG, WebP, ...), and get its id. Needs a key that may write."""
        try:
            data = base64.b64decode(data_base64, validate=True)
        except (binascii.Error, ValueError) as error:
            raise ToolError("data_base64 is not base64.") from error
        upload = PictureUpload(filename, data)
        async with self._client(context) as precis:
            (outcome,) = await precis.add(upload, metadata=metadata)
        return {"id": outcome.id, "status": outcome.status}

    async def delete_image(self, context: Context[Any, Any], image_id: str) -> Body:
        """Delete an image for good. Needs a key that may write."""
        async with self._client(context) as precis:
            await precis.delete(image_id)
        return {"id": image_id, "status": "deleted"}

    @asynccontextmanager
    async def _client(self, context: Context[Any, Any]) -> AsyncIterator[AsyncPrecis]:
        try:
            async with self._connect(context) as precis:
                yield precis
        except PrecisError as error:
            # For the host's model to read; any other error is a fault of ours.
            raise ToolError(str(error)) from error


def _hit(hit: Hit) -> Body:
    return {
        "id": hit.id,
        "score": round(hit.score, 4),
        "probability": hit.probability,
        "metadata": hit.metadata,
        "width_px": hit.width_px,
        "height_px": hit.height_px,
        "created_at_ms": hit.created_at_ms,
    }
