"""Fewer summary tokens for an image: at upload, in the record, in a question; what is refused; what
comes twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from fastapi.testclient import TestClient

from compressor.ports import ModelDescription
from tests.fakes.model import TOKEN_COUNT, FakeSummaryModel, InterruptedModel
from tests.service.conftest import (
    Body,
    Start,
    ask,
    assert_problem,
    factory,
    ids,
    listed,
    record,
    search,
    upload,
    uploaded,
)


def added(client: TestClient, colour: str, **fields: Any) -> Body:
    (image,) = uploaded(client, colour, **fields)
    return image


def token_count(image: Body) -> int:
    count: int = image["tokens"]["count"]
    return count


def test_only_so_many_tokens_are_kept_and_the_record_says_so(
    client: TestClient,
) -> None:
    whole = added(client, "red")
    short = added(client, "blue", tokens=2)
    assert token_count(whole) == TOKEN_COUNT
    assert token_count(short) == 2
    assert short["tokens"]["bytes"] * TOKEN_COUNT == whole["tokens"]["bytes"] * 2
    assert record(client, short["id"])["tokens"] == short["tokens"]
    best = search(client, "blue")[0]
    assert best["id"] == short["id"]
    assert token_count(best) == 2


def test_an_upload_that_does_not_say_keeps_what_the_model_proposes(
    start: Start,
) -> None:
    client = start(factory(kept_tokens=2))
    assert token_count(added(client, "red")) == 2
    assert token_count(added(client, "blue", tokens=TOKEN_COUNT)) == TOKEN_COUNT


def test_all_files_of_an_upload_have_as_many(client: TestClient) -> None:
    images = uploaded(client, "red", "blue", "green", tokens=1)
    assert list(map(token_count, images)) == [1, 1, 1]


def test_a_question_may_be_about_images_of_different_numbers(
    client: TestClient,
) -> None:
    images = [
        added(client, "red"),
        added(client, "blue", tokens=1),
        added(client, "green", tokens=2),
    ]
    question_words = 3
    prompt_tokens = TOKEN_COUNT + 1 + 2 + question_words
    named = ask(client, "What is there?", image_ids=ids(images))
    assert named["answer"] == "I see red blue green."
    assert named["usage"]["prompt_tokens"] == prompt_tokens
    nearest = ask(client, "What is there?", limit=3)
    assert nearest["usage"]["prompt_tokens"] == prompt_tokens


@pytest.mark.parametrize("tokens", [3, TOKEN_COUNT + 1, 10**9])
def test_what_is_none_of_the_budgets_is_422_and_stores_nothing(
    client: TestClient, tokens: int
) -> None:
    body = assert_problem(upload(client, "red", tokens=tokens), 422, "invalid-input")
    assert (
        body["detail"] == f"An image can keep 1 or 2 or 4 summary tokens, not {tokens}."
    )
    assert listed(client) == []


@pytest.mark.parametrize("tokens", ["0", "-1", "two", "1.5", "NaN"])
def test_what_is_no_number_of_tokens_is_422(client: TestClient, tokens: str) -> None:
    body = assert_problem(upload(client, "red", tokens=tokens), 422, "invalid-input")
    (fault,) = body["errors"]
    assert fault["location"] == ["body", "tokens"]


def test_a_model_without_budgets_keeps_all_or_refuses(start: Start) -> None:
    class Plain(FakeSummaryModel):
        description = ModelDescription("plain", "soft words", (TOKEN_COUNT,))

    client = start(factory(Plain()))
    body = assert_problem(upload(client, "red", tokens=2), 422, "invalid-input")
    assert body["detail"] == f"An image can keep {TOKEN_COUNT} summary tokens, not 2."
    assert token_count(added(client, "red", tokens=TOKEN_COUNT)) == TOKEN_COUNT


def test_more_tokens_make_an_image_anew_and_fewer_do_not(start: Start) -> None:
    batches: list[int] = []

    def count(batch: Sequence[object]) -> None:
        batches.append(len(batch))

    client = start(factory(InterruptedModel(count)))
    first = added(client, "red", tokens=2)
    client.put(f"/images/{first['id']}/metadata", json={"place": "here"})
    batches.clear()
    for fields in ({"tokens": 2}, {"tokens": 1}, {}):
        image = added(client, "red", **fields)
        assert image["status"] == "exists"
        assert token_count(image) == 2
    assert batches == []
    again = added(client, "red", tokens=4, metadata='{"place": "there"}')
    assert again["status"] == "created"
    assert again["id"] == first["id"]
    assert token_count(again) == 4
    assert again["metadata"] == {"place": "here"}
    assert batches == [1]
    (stored,) = listed(client)
    assert stored["id"] == first["id"]
    assert token_count(stored) == 4
    assert len(search(client, "red")) == 1
