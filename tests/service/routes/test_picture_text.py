"""Text in pictures, read at upload, searched, filtered and asked about, through HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import pytest
from fastapi.testclient import TestClient
from PIL.Image import Image

from compressor.errors import TextReaderFailed
from compressor.ports import GenerationLimits, GenerationRequest, Piece
from service.use_cases.picture_text import CANNOT_READ
from tests.fakes.model import FakeGenerator
from tests.fakes.text_reader import FakeTextReader, png, spelled
from tests.service.conftest import (
    Start,
    add,
    ask,
    asked,
    factory,
    ids,
    listed,
    record,
    search,
    send,
)
from tests.service.routes.test_ask import events


class EchoingGenerator(FakeGenerator):
    """Answers with the question."""

    def generate(
        self, requests: Sequence[GenerationRequest], limits: Sequence[GenerationLimits]
    ) -> Iterator[Piece]:
        for number, request in enumerate(requests):
            yield Piece(number, request.conversation[-1].text, 1, 1, "stop", 0.5)


@pytest.fixture
def client(start: Start) -> TestClient:
    """A service that reads text in pictures, over a model that does not."""
    generator, reader = EchoingGenerator(), FakeTextReader()
    return start(factory(generator=generator, text_reader=reader, reads_text=False))


def add_sign(client: TestClient, *lines: str, colour: str = "white") -> str:
    (image,) = send(client, png(spelled(lines, colour))).json()["images"]
    return str(image["id"])


def test_what_a_picture_says_stands_in_its_metadata(client: TestClient) -> None:
    stop = add_sign(client, "STOP", "Main Street")
    (red,) = add(client, "red")
    expected = {"lines": ["STOP", "Main Street"], "words": ["stop", "main", "street"]}
    assert record(client, stop)["metadata"] == {"text": expected}
    assert record(client, red)["metadata"] == {}
    filters = [{"text.words": "main"}, {"text.lines": "STOP"}]
    for where in filters:
        assert ids(listed(client, where=json.dumps(where))) == [stop]


def test_what_the_upload_says_of_the_text_stands(client: TestClient) -> None:
    metadata = json.dumps({"text": "a stop sign", "tags": ["sign"]})
    data = png(spelled(["STOP"]))
    (image,) = send(client, data, metadata=metadata).json()["images"]
    assert image["metadata"] == json.loads(metadata)


def test_a_word_in_a_picture_finds_it(client: TestClient) -> None:
    red, blue, green = add(client, "red", "blue", "green")
    sign = add_sign(client, "RED", "LION", colour="black")
    hits = search(client, "Red.")
    # The red picture first, then the one that says so.
    assert ids(hits)[:2] == [red, sign]
    assert [hit["by_text"] for hit in hits] == [False, True, False, False]
    assert sorted(ids(hits)) == sorted([red, blue, green, sign])
    (first, second) = search(client, "red lion", limit=2)
    assert (first["by_text"], second["id"]) == (False, sign)
    assert not any(hit["by_text"] for hit in search(client, "lion cub"))


def test_a_filter_holds_for_words_in_pictures_too(client: TestClient) -> None:
    add_sign(client, "LION")
    (red,) = add(client, "red")
    client.put(f"/images/{red}/metadata", json={"tags": ["mine"]})
    assert ids(search(client, "lion", tag="mine")) == [red]


def test_the_model_is_told_what_the_picture_says(client: TestClient) -> None:
    sign = add_sign(client, "STOP", "Main Street")
    body = ask(client, "What does the sign say?", image_ids=[sign])
    told = 'The picture says "STOP Main Street". What does the sign say?'
    assert body["answer"] == told
    assert body["source"] == "ocr"
    other = ask(client, "What colour is it?", image_ids=[sign])
    assert (other["answer"], other["source"]) == ("What colour is it?", "model")


@pytest.mark.parametrize("stream", [False, True])
def test_text_that_nobody_has_read_is_not_made_up(
    client: TestClient, stream: bool
) -> None:
    (red,) = add(client, "red")
    response = asked(client, "What does it say?", image_ids=[red], stream=stream)
    body = response.json() if not stream else events(response.text)[-1][1]
    assert body["answer"] == CANNOT_READ
    assert (body["source"], body["confidence"]) == ("rule", None)
    assert body["finish_reason"] == "stop"
    assert ids(body["images"]) == [red]


def test_a_model_that_reads_text_is_asked(start: Start) -> None:
    client = start(factory(generator=EchoingGenerator()))
    (red,) = add(client, "red")
    body = ask(client, "What does it say?", image_ids=[red])
    assert (body["answer"], body["source"]) == ("What does it say?", "model")


def test_a_picture_whose_text_cannot_be_read_is_stored(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    class BrokenReader(FakeTextReader):
        def read(self, image: Image) -> list[str]:
            raise TextReaderFailed("the text cannot be read")

    client = start(factory(text_reader=BrokenReader()))
    sign = add_sign(client, "STOP")
    assert record(client, sign)["metadata"] == {}
    assert "the text cannot be read" in caplog.text
