"""Questions to the whole library: rewritten, answered from several images, cited."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from fastapi.testclient import TestClient

from compressor.ports import GenerationLimits, GenerationRequest, Piece
from service.use_cases.picture_text import CANNOT_READ
from service.use_cases.question_query import query_of
from service.use_cases.refusals import is_refusal
from tests.fakes.model import FakeGenerator
from tests.service.conftest import Body, Start, add, assert_problem, factory, upload


def ask_library(client: TestClient, question: str, **members: Any) -> Body:
    response = client.post("/ask/library", json={"question": question, **members})
    assert response.status_code == 200, response.text
    body: Body = response.json()
    return body


@pytest.mark.parametrize(
    ("question", "query"),
    [
        ("What is the dog doing?", "the dog"),
        ("What color is the car in my photos?", "the car"),
        ("How many cats are there in the picture?", "cats"),
        ("Show me pictures of a dog in the snow.", "a dog in the snow"),
        ("Is there a red bus?", "a red bus"),
        ("Who is in the picture?", "Who is in the picture?"),
        ("What is it?", "What is it?"),
        ("Wo ist der Hund?", "wo ist der hund"),
        ("", ""),
    ],
)
def test_a_question_becomes_a_query(question: str, query: str) -> None:
    assert query_of(question) == query


def test_all_hits_answer_and_each_by_itself(client: TestClient) -> None:
    red, green, blue = add(client, "red", "green", "blue")
    body = ask_library(client, "What is the red thing?", limit=2)
    assert body["query"] == "the red thing"
    first, second = body["images"]
    assert first["id"] == red
    assert second["id"] in (green, blue)
    assert body["answer"].startswith("I see red ")
    assert first["answer"] == "I see red."
    assert (first["cited"], second["cited"]) == (False, False)
    assert first["score"] > second["score"]
    assert body["timings_ms"]["cite"] >= 0


def test_images_that_agree_are_cited(client: TestClient) -> None:
    red, blue = add(client, "red", "blue")
    form = {"type": "choice", "options": ["other", "blue"]}
    body = ask_library(client, "Is there a red or blue thing?", format=form)
    assert body["answer"] == "blue"
    cited = {image["id"]: image["cited"] for image in body["images"]}
    assert cited == {blue: True, red: False}


@pytest.mark.parametrize("colours", [["red"], ["red", "blue"]])
def test_no_picture_supports_that_the_model_cannot_tell(
    start: Start, colours: list[str]
) -> None:
    class Refusing(FakeGenerator):
        def generate(
            self,
            requests: Sequence[GenerationRequest],
            limits: Sequence[GenerationLimits],
        ) -> Iterator[Piece]:
            for number, _ in enumerate(requests):
                yield Piece(number, "I cannot tell from this picture.", 9, 8, "stop")

    client = start(factory(generator=Refusing()))
    add(client, *colours)
    body = ask_library(client, "How old is he?")
    assert body["answer"] == "I cannot tell from this picture."
    assert [image["cited"] for image in body["images"]] == [None] * len(colours)
    assert {image["answer"] for image in body["images"]} == {body["answer"]}


def test_no_picture_supports_that_its_text_cannot_be_read(start: Start) -> None:
    client = start(factory(reads_text=False))
    add(client, "red", "blue")
    body = ask_library(client, "What does the sign say?")
    assert (body["answer"], body["source"]) == (CANNOT_READ, "rule")
    assert [image["cited"] for image in body["images"]] == [None, None]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("I cannot tell from this picture.", True),
        ("I cannot read text in this picture.", True),
        ("I’m sorry, but I can’t identify people.", True),
        ("I don't know", True),
        ("It is not possible to tell.", True),
        ("Unanswerable", True),
        ("A cat.", False),
        ("No.", False),
        ("I cannot see a dog.", False),
        ("I see a man who cannot tell the time.", False),
        ("", False),
    ],
)
def test_a_refusal_is_known_by_its_first_words(answer: str, expected: bool) -> None:
    assert is_refusal(answer) is expected


def test_a_single_image_is_asked_once(start: Start) -> None:
    class Counting(FakeGenerator):
        asked = 0

        def generate(
            self,
            requests: Sequence[GenerationRequest],
            limits: Sequence[GenerationLimits],
        ) -> Iterator[Piece]:
            Counting.asked += len(requests)
            return super().generate(requests, limits)

    client = start(factory(generator=Counting()))
    add(client, "red")
    before = Counting.asked
    body = ask_library(client, "What is it?")
    assert [image["cited"] for image in body["images"]] == [True]
    assert Counting.asked == before + 1


def test_the_answer_is_streamed_and_then_cited(client: TestClient) -> None:
    add(client, "red", "blue")
    members = {"question": "What is red?", "stream": True}
    text = client.post("/ask/library", json=members).text
    events = [block.split("\n") for block in text.strip().split("\n\n")]
    names = [lines[0].removeprefix("event: ") for lines in events]
    assert names == ["piece"] * (len(names) - 1) + ["done"]
    data = [json.loads(lines[1].removeprefix("data: ")) for lines in events]
    assert "".join(each["text"] for each in data[:-1]) == data[-1]["answer"]
    assert [image["answer"] for image in data[-1]["images"]] == [
        "I see red.",
        "I see blue.",
    ]


def test_an_answer_does_not_fail_for_want_of_citations(start: Start) -> None:
    """An image is deleted while the model answers from both."""

    class Deleting(FakeGenerator):
        def generate(
            self,
            requests: Sequence[GenerationRequest],
            limits: Sequence[GenerationLimits],
        ) -> Iterator[Piece]:
            if any(len(request.images) == 2 for request in requests):
                assert client.delete(f"/images/{blue}").status_code == 204
            return super().generate(requests, limits)

    client = start(factory(generator=Deleting()))
    _, blue = add(client, "red", "blue")
    body = ask_library(client, "What is red?")
    assert body["answer"].startswith("I see red ")
    answers = [image["answer"] for image in body["images"]]
    assert answers == ["I see red.", None]
    assert body["images"][1]["cited"] is None


def test_filters_hold_and_limits_are_told(start: Start) -> None:
    client = start(max_ask_images=2)
    assert_problem(
        client.post("/ask/library", json={"question": "What?"}), 404, "no-images"
    )
    add(client, "red", "green")
    upload(client, "blue", metadata='{"tags": ["sea"]}')
    assert len(ask_library(client, "What is red?")["images"]) == 2
    body = ask_library(client, "What is red?", tags=["sea"])
    assert body["answer"] == "I see blue."
    for members in ({"limit": 3}, {"limit": 0}, {"image_ids": ["a"]}):
        response = client.post("/ask/library", json={"question": "What?", **members})
        assert_problem(response, 422, "invalid-input")
