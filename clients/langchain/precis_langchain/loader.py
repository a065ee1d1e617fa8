"""A document loader: the images of a library, with captions if wanted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence

from langchain_core.document_loaders import BaseLoader
from langchain_core.documents import Document

from precis_client import AsyncPrecis, Precis
from precis_client.routes import Where
from precis_langchain.documents import image_document


class PrecisLoader(BaseLoader):
    """Yields a document for each stored image, oldest first. Raises errors of `precis_client`."""

    def __init__(
        self,
        client: Precis | None = None,
        *,
        async_client: AsyncPrecis | None = None,
        question: str | None = None,
        where: Where | None = None,
        tags: Sequence[str] = (),
    ) -> None:
        """Of the service of `client`, or of PRECIS_URL.

        `question` is asked about each image, and its answer, the caption, begins the document.
        `where` and `tags` restrict the images. `async_client` is for `alazy_load` and `aload`;
        without one the synchronous client works in a thread.
        """
        self._client = Precis() if client is None else client
        self._async_client = async_client
        self._question = question
        self._where = where
        self._tags = tags

    def lazy_load(self) -> Iterator[Document]:
        """The documents, one at a time."""
        client = self._client
        for image in client.images(where=self._where, tags=self._tags):
            caption = None
            if self._question is not None:
                caption = client.ask(self._question, image_ids=[image.id]).answer
            url = client.thumbnail_url(image.id)
            yield image_document(client.image(image.id), url, caption=caption)

    async def alazy_load(self) -> AsyncIterator[Document]:
        """The documents, one at a time."""
        client = self._async_client
        if client is None:
            async for document in super().alazy_load():
                yield document
            return
        async for image in client.images(where=self._where, tags=self._tags):
            caption = None
            if self._question is not None:
                answer = await client.ask(self._question, image_ids=[image.id])
                caption = answer.answer
            url = client.thumbnail_url(image.id)
            yield image_document(await client.image(image.id), url, caption=caption)
