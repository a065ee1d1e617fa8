"""A reader: the images of a library as image documents, with captions if wanted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from llama_index.core.readers.base import BaseReader
from llama_index.core.schema import ImageDocument

from precis_client import Precis
from precis_client.routes import Where
from precis_llamaindex.nodes import kept_thumbnail, node_fields


class PrecisReader(BaseReader):
    """Reads a document for each stored image, oldest first. Raises errors of `precis_client`.

    `aload_data` and `alazy_load_data`, which are LlamaIndex's own, read in a thread.
    """

    def __init__(self, client: Precis | None = None) -> None:
        """Of the service of `client`, or of PRECIS_URL."""
        self._client = Precis() if client is None else client

    def lazy_load_data(
        self,
        *args: Any,  # noqa: ARG002
        question: str | None = None,
        where: Where | None = None,
        tags: Sequence[str] = (),
        **load_kwargs: Any,  # noqa: ARG002
    ) -> Iterator[ImageDocument]:
        """The documents, one at a time.

        `question` is asked about each image, and its answer, the caption, begins the document.
        `where` and `tags` restrict the images.
        """
        client = self._client
        for image in client.images(where=where, tags=tags):
            caption = None
            if question is not None:
                caption = client.ask(question, image_ids=[image.id]).answer
            thumbnail = kept_thumbnail(client, image.id)
            url = client.thumbnail_url(image.id)
            fields = node_fields(
                client.image(image.id), thumbnail, url, caption=caption
            )
            yield ImageDocument(**fields)
