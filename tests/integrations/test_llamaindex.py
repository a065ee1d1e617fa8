"""The retriever and the reader, through LlamaIndex's own interfaces, over a real service."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

pytest.importorskip("llama_index.core")

from llama_index.core.postprocessor import SimilarityPostprocessor
from llama_index.core.schema import (
    ImageDocument,
    ImageNode,
    NodeWithScore,
    QueryBundle,
)

from precis_client import AsyncPrecis, Precis
from precis_client.errors import ConnectionFailed
from precis_llamaindex import PrecisReader, PrecisRetriever
from tests.clients.conftest import Draw
from tests.clients.serving import address_of_nobody, served

pytestmark = pytest.mark.integrations
Stored = dict[str, str]


def ids(nodes: list[NodeWithScore]) -> list[str]:
    return [node.node.node_id for node in nodes]


def check_found(nodes: list[NodeWithScore], precis: Precis, stored: Stored) -> None:
    """That these are the three images, the blue one first."""
    hits = precis.search("blue")
    assert ids(nodes) == [hit.id for hit in hits]
    node, hit = nodes[0].node, hits[0]
    assert isinstance(node, ImageNode)
    assert node.node_id == stored["blue"]
    assert node.text == "File: blue.png"
    assert nodes[0].score == pytest.approx(hit.probability)
    assert node.metadata["score"] == pytest.approx(hit.score)
    assert node.metadata["probability"] == pytest.approx(hit.probability)
    assert node.metadata["tags"] == ["blue"]
    assert node.image_url == node.metadata["thumbnail_url"]
    assert node.image_mimetype == "image/webp"
    assert node.resolve_image().read() == precis.thumbnail(stored["blue"])


def test_the_retriever_finds_images(precis: Precis, stored: Stored) -> None:
    nodes = PrecisRetriever(precis).retrieve("blue")
    check_found(nodes, precis, stored)
    best = nodes[0].score
    assert best is not None
    cut = SimilarityPostprocessor(similarity_cutoff=best)
    assert ids(cut.postprocess_nodes(nodes)) == [stored["blue"]]


@pytest.mark.parametrize("is_native", [True, False])
def test_the_retriever_is_asynchronous(
    precis: Precis, stored: Stored, is_native: bool, draw: Draw
) -> None:
    like = QueryBundle("", image_path=str(draw("like.png", "red", (50, 30))))

    async def found() -> tuple[list[NodeWithScore], list[NodeWithScore]]:
        async with AsyncPrecis(precis.url) as client:
            retriever = PrecisRetriever(
                precis, async_client=client if is_native else None
            )
            return await retriever.aretrieve("blue"), await retriever.aretrieve(like)

    by_text, by_picture = asyncio.run(found())
    check_found(by_text, precis, stored)
    assert ids(by_picture)[0] == stored["red"]


def test_the_retriever_takes_a_picture(
    precis: Precis, stored: Stored, draw: Draw
) -> None:
    like = str(draw("like.png", "red", (50, 30)))
    retriever = PrecisRetriever(precis, similarity_top_k=1)
    (node,) = retriever.retrieve(QueryBundle("", image_path=like))
    assert node.node.node_id == stored["red"]
    (hit,) = precis.search_image(like, limit=1)
    assert node.score == pytest.approx(hit.score)


def test_the_retriever_keeps_to_its_limits(precis: Precis, stored: Stored) -> None:
    def found(**options: object) -> list[str]:
        return ids(PrecisRetriever(precis, **options).retrieve("blue"))

    assert found(similarity_top_k=1) == [stored["blue"]]
    assert found(tags=["red"]) == [stored["red"]]
    assert found(where={"filename": "green.png"}) == [stored["green"]]
    threshold = precis.search("blue")[0].probability
    assert found(min_probability=threshold) == [stored["blue"]]


def test_images_without_a_kept_picture_are_found_too(
    tmp_path: Path, draw: Draw
) -> None:
    async def found(url: str) -> list[NodeWithScore]:
        async with AsyncPrecis(url) as client:
            retriever = PrecisRetriever(precis, async_client=client)
            return await retriever.aretrieve("red")

    with (
        served(tmp_path / "bare", keep="none") as url,
        Precis(url) as precis,
    ):
        precis.add(draw("red.png", "red"))
        (document,) = PrecisReader(precis).load_data()
        nodes = PrecisRetriever(precis).retrieve("red")
        nodes += asyncio.run(found(url))
    assert isinstance(document, ImageDocument)
    assert document.image is None
    for node in nodes:
        assert isinstance(node.node, ImageNode)
        assert node.node.image is None
        # Without a calibration there is no probability, and the score is the cosine.
        assert node.score == pytest.approx(node.node.metadata["score"])


def test_errors_are_those_of_the_client() -> None:
    with Precis(address_of_nobody()) as nobody:
        with pytest.raises(ConnectionFailed):
            PrecisRetriever(nobody).retrieve("blue")
        with pytest.raises(ConnectionFailed):
            PrecisReader(nobody).load_data()


def test_the_reader_reads_the_library(precis: Precis, stored: Stored) -> None:
    reader = PrecisReader(precis)
    documents = reader.load_data()
    assert [document.doc_id for document in documents] == list(stored.values())
    first = documents[0]
    assert isinstance(first, ImageDocument)
    assert first.text == "File: red.png"
    assert first.resolve_image().read() == precis.thumbnail(stored["red"])
    assert first.metadata["thumbnail_url"] == precis.thumbnail_url(stored["red"])
    captioned = asyncio.run(reader.aload_data(question="What?", tags=["green"]))
    assert [each.text for each in captioned] == ["I see green.\nFile: green.png"]
