"""Fewer summary tokens for an image: at upload, in the record, in a question; what is refused; what
comes twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from fastapi.testclient import TestClient
from httpx import Response

from compressor.ports import ModelDescription
from service.models import Models
from tests.fakes.model import TOKEN_COUNT, FakeGenerator, FakeSummaryModel, InterruptedModel
from tests.service.conftest import Start, assert_problem, files, picture


def upload(client: TestClient, *colours: str, **data: Any) -> Response:
    return client.post("/images", files=files(*map(picture, colours)), data=data)


def added(client: TestClient, colour: str, **data: Any) -> dict[str, Any]:
    (image,) = upload(client, colour, **data).json()["images"]
    return dict(image)


def test_only_so_many_tokens_are_kept_and_the_record_says_so(client: TestClient) -> None:
    whole, some = added(client, "red"), added(client, "blue", tokens=2)
    assert (whole["tokens"]["count"], some["tokens"]["count"]) == (TOKEN_COUNT, 2)
    assert some["tokens"]["bytes"] * TOKEN_COUNT == whole["tokens"]["bytes"] * 2
    assert client.get(f"/images/{some['id']}").json()["tokens"] == some["tokens"]
    (best, _) = client.get("/search", params={"q": "blue"}).json()["results"]
    assert (best["id"], best["tokens"]["count"]) == (some["id"], 2)


def test_all_files_of_an_upload_have_as_many(client: TestClient) -> None:
    images = upload(client, "red", "blue", "green", tokens=1).json()["images"]
    assert [image["tokens"]["count"] for image in images] == [1, 1, 1]


def test_a_question_may_be_about_images_of_different_numbers(client: TestClient) -> None:
    ids = [
        added(client, "red")["id"],
        added(client, "blue", tokens=1)["id"],
        added(client, "green", tokens=2)["id"],
    ]
    body = client.post("/ask", json={"question": "What is there?", "image_ids": ids}).json()
    assert body["answer"] == "I see red blue green."
    assert body["usage"]["prompt_tokens"] == TOKEN_COUNT + 1 + 2 + 3
    found = client.post("/ask", json={"question": "What is there?", "limit": 3}).json()
    assert found["usage"]["prompt_tokens"] == TOKEN_COUNT + 1 + 2 + 3


@pytest.mark.parametrize("tokens", [3, TOKEN_COUNT + 1, 10**9])
def test_what_is_none_of_the_budgets_is_422_and_stores_nothing(
    client: TestClient, tokens: int
) -> None:
    body = assert_problem(upload(client, "red", tokens=tokens), 422, "invalid-input")
    assert body["detail"] == f"An image can keep 1 or 2 or 4 summary tokens, not {tokens}."
    assert client.get("/images").json()["images"] == []


@pytest.mark.parametrize("tokens", ["0", "-1", "two", "1.5", "NaN"])
def test_what_is_no_number_of_tokens_is_422(client: TestClient, tokens: str) -> None:
    assert assert_problem(upload(client, "red", tokens=tokens), 422, "invalid-input")["errors"][0][
        "location"
    ] == [
        "body",
        "tokens",
    ]


def test_a_model_without_budgets_keeps_all_or_refuses(start: Start) -> None:
    class Plain(FakeSummaryModel):
        description = ModelDescription("plain", "soft words", (TOKEN_COUNT,))

    client = start(lambda _: Models(Plain(), FakeGenerator()))
    body = assert_problem(upload(client, "red", tokens=2), 422, "invalid-input")
    assert body["detail"] == f"An image can keep {TOKEN_COUNT} summary tokens, not 2."
    assert added(client, "red", tokens=TOKEN_COUNT)["tokens"]["count"] == TOKEN_COUNT


def test_more_tokens_make_an_image_anew_and_fewer_do_not(start: Start) -> None:
    batches: list[int] = []

    def count(batch: Sequence[object]) -> None:
        batches.append(len(batch))

    client = start(lambda _: Models(InterruptedModel(count), FakeGenerator()))
    first = added(client, "red", tokens=2)
    client.put(f"/images/{first['id']}/metadata", json={"place": "here"})
    batches.clear()
    for asked in ({"tokens": 2}, {"tokens": 1}, {}):
        response = upload(client, "red", **asked)
        assert response.status_code == 200
        assert response.json()["images"][0]["status"] == "exists"
        assert response.json()["images"][0]["tokens"]["count"] == 2
    assert batches == []
    response = upload(client, "red", tokens=4, metadata='{"place": "there"}')
    assert response.status_code == 201
    (again,) = response.json()["images"]
    assert (again["status"], again["id"], again["tokens"]["count"]) == ("created", first["id"], 4)
    assert again["metadata"] == {"place": "here"}
    assert batches == [1]
    stored = client.get("/images").json()["images"]
    assert [(image["id"], image["tokens"]["count"]) for image in stored] == [(first["id"], 4)]
    assert len(client.get("/search", params={"q": "red"}).json()["results"]) == 1
