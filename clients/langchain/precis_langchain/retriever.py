"""A retriever: the images that match a text, as documents."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.callbacks import (
    AsyncCallbackManagerForRetrieverRun,
    CallbackManagerForRetrieverRun,
)
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from pydantic import Field

from precis_client import AsyncPrecis, Precis
from precis_langchain.documents import image_document


class PrecisRetriever(BaseRetriever):
    """Finds stored images by what they show.

    Of each image found the record is read as well, for the text of its document. Raises the errors
    of `precis_client`.
    """

    client: Precis = Field(default_factory=Precis)
    # For `ainvoke`; without one the synchronous client works in a thread.
    async_client: AsyncPrecis | None = None
    k: int = Field(default=10, ge=1)  # the most images to return
    min_probability: float | None = Field(default=None, ge=0, le=1)
    # A filter over metadata, and tags that an image must have. LangChain has `tags` of its own, for
    # tracing.
    where: Mapping[str, Any] | None = None
    image_tags: Sequence[str] = ()

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,  # noqa: ARG002
    ) -> list[Document]:
        documents = []
        for hit in self.client.search(query, **self._options):
            image = self.client.image(hit.id)
            url = self.client.thumbnail_url(hit.id)
            documents.append(image_document(image, url, hit=hit))
        return documents

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun
    ) -> list[Document]:
        client = self.async_client
        if client is None:
            return await super()._aget_relevant_documents(
                query, run_manager=run_manager
            )
        hits = await client.search(query, **self._options)
        images = await asyncio.gather(*(client.image(hit.id) for hit in hits))
        return [
            image_document(image, client.thumbnail_url(hit.id), hit=hit)
            for hit, image in zip(hits, images, strict=True)
        ]

    @property
    def _options(self) -> dict[str, Any]:
        return {
            "limit": self.k,
            "min_probability": self.min_probability,
            "where": self.where,
            "tags": self.image_tags,
        }
