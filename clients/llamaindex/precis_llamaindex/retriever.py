"""A retriever: the images that match a text or a picture, as scored image nodes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from llama_index.core.callbacks import CallbackManager
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import ImageNode, NodeWithScore, QueryBundle

from precis_client import AsyncPrecis, Precis
from precis_client.errors import NotFound
from precis_client.results import DetailedImage, Hit
from precis_client.routes import Where
from precis_llamaindex.nodes import kept_thumbnail, node_fields


class PrecisRetriever(BaseRetriever):
    """Finds stored images by what they show.

    The score of a node is the probability that its image matches, where the service knows it, and
    else the cosine; the metadata have both. Of each image found record and thumbnail are read as
    well. Raises the errors of `precis_client`.
    """

    def __init__(
        self,
        client: Precis | None = None,
        *,
        async_client: AsyncPrecis | None = None,
        similarity_top_k: int = 10,
        min_probability: float | None = None,
        where: Where | None = None,
        tags: Sequence[str] = (),
        callback_manager: CallbackManager | None = None,
    ) -> None:
        """Of the service of `client`, or of PRECIS_URL.

        `where` and `tags` restrict the images, and `min_probability` leaves out those that match a
        text less probably. `async_client` is for `aretrieve`; without one the synchronous client
        works in a thread.
        """
        super().__init__(callback_manager=callback_manager)
        self._client = Precis() if client is None else client
        self._async_client = async_client
        self._min_probability = min_probability
        self._restrictions: dict[str, Any] = {
            "limit": similarity_top_k,
            "where": where,
            "tags": tags,
        }

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        client = self._client
        if query_bundle.image_path is None:
            hits = client.search(
                query_bundle.query_str,
                min_probability=self._min_probability,
                **self._restrictions,
            )
        else:
            hits = client.search_image(
                query_bundle.image_path,
                text=query_bundle.query_str or None,
                **self._restrictions,
            )
        return [
            _node(
                hit,
                client.image(hit.id),
                kept_thumbnail(client, hit.id),
                client.thumbnail_url(hit.id),
            )
            for hit in hits
        ]

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        client = self._async_client
        if client is None:
            return await asyncio.to_thread(self._retrieve, query_bundle)
        if query_bundle.image_path is None:
            hits = await client.search(
                query_bundle.query_str,
                min_probability=self._min_probability,
                **self._restrictions,
            )
        else:
            hits = await client.search_image(
                query_bundle.image_path,
                text=query_bundle.query_str or None,
                **self._restrictions,
            )
        return await asyncio.gather(*(_async_node(client, hit) for hit in hits))


async def _async_node(client: AsyncPrecis, hit: Hit) -> NodeWithScore:
    image = await client.image(hit.id)
    try:
        thumbnail = await client.thumbnail(hit.id)
    except NotFound:
        thumbnail = None
    return _node(hit, image, thumbnail, client.thumbnail_url(hit.id))


def _node(
    hit: Hit, image: DetailedImage, thumbnail: bytes | None, thumbnail_url: str
) -> NodeWithScore:
    fields = node_fields(image, thumbnail, thumbnail_url)
    fields["metadata"] |= {"score": hit.score, "probability": hit.probability}
    score = hit.score if hit.probability is None else hit.probability
    node = ImageNode(**fields, image_url=thumbnail_url)
    return NodeWithScore(node=node, score=score)
