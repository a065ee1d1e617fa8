"""The retriever and the loader, through LangChain's own interfaces, over a real service."""

from __future__ import annotations

import asyncio

import httpx
import pytest

pytest.importorskip("langchain_core")

from langchain_core.documents import Document
from langchain_core.messages import HumanMessage
from langchain_core.messages.content import create_image_block
from langchain_core.runnables import RunnableLambda

from precis_client import AsyncPrecis, Precis
from precis_client.errors import ConnectionFailed
from precis_langchain import PrecisLoader, PrecisRetriever
from tests.clients.serving import address_of_nobody

pytestmark = pytest.mark.integrations
Stored = dict[str, str]


def check_found(documents: list[Document], precis: Precis, stored: Stored) -> None:
    """That these are the three images, the blue one first."""
    hits = precis.search("blue")
    assert [document.id for document in documents] == [hit.id for hit in hits]
    first, hit = documents[0], hits[0]
    assert first.id == stored["blue"]
    assert first.page_content == "File: blue.png"
    assert first.metadata["score"] == pytest.approx(hit.score)
    assert hit.probability is not None
    assert first.metadata["probability"] == pytest.approx(hit.probability)
    assert first.metadata["tags"] == ["blue"]
    assert (first.metadata["width_px"], first.metadata["height_px"]) == (40, 30)
    thumbnail = httpx.get(first.metadata["thumbnail_url"])
    assert thumbnail.content == precis.thumbnail(stored["blue"])


def test_the_retriever_finds_images(precis: Precis, stored: Stored) -> None:
    retriever = PrecisRetriever(client=precis)
    check_found(retriever.invoke("blue"), precis, stored)
    count = RunnableLambda(len)
    assert (retriever | count).batch(["blue", "red"]) == [3, 3]


@pytest.mark.parametrize("is_native", [True, False])
def test_the_retriever_is_asynchronous(
    precis: Precis, stored: Stored, is_native: bool
) -> None:
    async def found() -> list[Document]:
        async with AsyncPrecis(precis.url) as client:
            retriever = PrecisRetriever(
                client=precis, async_client=client if is_native else None
            )
            return await retriever.ainvoke("blue")

    check_found(asyncio.run(found()), precis, stored)


def test_the_retriever_keeps_to_its_limits(precis: Precis, stored: Stored) -> None:
    def found(**options: object) -> list[str | None]:
        retriever = PrecisRetriever(client=precis, **options)
        return [document.id for document in retriever.invoke("blue")]

    assert found(k=1) == [stored["blue"]]
    assert found(image_tags=["red"]) == [stored["red"]]
    assert found(where={"filename": "green.png"}) == [stored["green"]]
    threshold = precis.search("blue")[0].probability
    assert found(min_probability=threshold) == [stored["blue"]]
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        PrecisRetriever(client=precis, k=0)


def test_errors_are_those_of_the_client() -> None:
    with Precis(address_of_nobody()) as nobody:
        with pytest.raises(ConnectionFailed):
            PrecisRetriever(client=nobody).invoke("blue")
        with pytest.raises(ConnectionFailed):
            PrecisLoader(nobody).load()


def test_the_loader_reads_the_library(precis: Precis, stored: Stored) -> None:
    documents = PrecisLoader(precis).load()
    assert [document.id for document in documents] == list(stored.values())
    assert documents[0].page_content == "File: red.png"
    assert "score" not in documents[0].metadata
    (captioned,) = PrecisLoader(precis, question="What?", tags=["green"]).lazy_load()
    assert captioned.page_content == "I see green.\nFile: green.png"


@pytest.mark.parametrize("is_native", [True, False])
def test_the_loader_is_asynchronous(
    precis: Precis, stored: Stored, is_native: bool
) -> None:
    async def loaded() -> list[Document]:
        async with AsyncPrecis(precis.url) as client:
            loader = PrecisLoader(
                precis, async_client=client if is_native else None, question="What?"
            )
            return await loader.aload()

    documents = asyncio.run(loaded())
    assert documents == PrecisLoader(precis, question="What?").load()
    assert len(documents) == len(stored)


def test_a_thumbnail_goes_into_a_message(precis: Precis, stored: Stored) -> None:
    (document,) = PrecisRetriever(client=precis, k=1).invoke("red")
    assert document.id == stored["red"]
    block = create_image_block(url=document.metadata["thumbnail_url"])
    message = HumanMessage(content_blocks=[block])
    assert message.content_blocks[0]["type"] == "image"
