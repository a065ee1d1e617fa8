"""Questions, answered at once and as a stream, through HTTP."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient

from compressor.ports import Piece
from service.models import Models
from service.worker.worker import ModelWorker
from tests.fakes.model import TOKEN_COUNT, FakeSummaryModel, InterruptedGenerator
from tests.service.conftest import Start, add, assert_problem


def events(text: str) -> list[tuple[str, Any]]:
    """(name, data) of each server-sent event."""
    found = []
    for block in text.split("\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in block.splitlines())
        found.append((fields["event"], json.loads(fields["data"])))
    return found


def test_a_question_about_a_named_image(client: TestClient) -> None:
    red, blue = add(client, "red", "blue")
    body = client.post("/ask", json={"question": "What is there?", "image_ids": [blue]}).json()
    assert body["answer"] == "I see blue."
    assert body["images"] == [
        {"id": blue, "score": None, "model": "fake colours", "mode": "adapters"}
    ]
    assert body["finish_reason"] == "stop"
    assert body["usage"] == {"prompt_tokens": TOKEN_COUNT + 3, "completion_tokens": 3}
    assert set(body["timings_ms"]) == {"find", "first_token", "generate", "total"}
    both = client.post(
        "/ask", json={"question": "What is there?", "image_ids": [blue, red, blue]}
    ).json()
    assert both["answer"] == "I see blue red."
    assert [image["id"] for image in both["images"]] == [blue, red]


def test_without_ids_it_searches_first(client: TestClient) -> None:
    add(client, "red", "blue")
    (green,) = add(client, "green")
    body = client.post("/ask", json={"question": "Where is something green in sight"}).json()
    assert body["answer"] == "I see green."
    assert [image["id"] for image in body["images"]] == [green]
    assert body["images"][0]["score"] > 0.9
    assert len(client.post("/ask", json={"question": "green", "limit": 3}).json()["images"]) == 3


def test_an_answer_ends_at_its_longest(client: TestClient) -> None:
    (red,) = add(client, "red")
    body = client.post(
        "/ask", json={"question": "count", "image_ids": [red], "max_tokens": 3}
    ).json()
    assert body["answer"] == "1 2 3"
    assert body["finish_reason"] == "length"
    assert body["usage"]["completion_tokens"] == 3


def test_a_stream_gives_pieces_then_the_whole(client: TestClient) -> None:
    (red,) = add(client, "red")
    question = {"question": "count", "image_ids": [red], "max_tokens": 4}
    response = client.post("/ask", json={**question, "stream": True})
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-cache"
    assert response.headers["x-accel-buffering"] == "no"
    *pieces, (last, whole) = events(response.text)
    assert pieces == [("piece", {"text": f"{number} "}) for number in (1, 2, 3, 4)]
    assert last == "done"
    at_once = client.post("/ask", json=question).json()
    assert {**whole, "timings_ms": None} == {**at_once, "timings_ms": None}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        ({"question": ""}, 422, "invalid-input"),
        ({"question": " \n"}, 422, "invalid-input"),
        ({"question": "a" * 100_000}, 422, "invalid-input"),
        ({"question": 3}, 422, "invalid-input"),
        ({}, 422, "invalid-input"),
        ({"question": "a", "limit": 0}, 422, "invalid-input"),
        ({"question": "a", "limit": 9}, 422, "invalid-input"),
        ({"question": "a", "max_tokens": 0}, 422, "invalid-input"),
        ({"question": "a", "max_tokens": 100_000}, 422, "invalid-input"),
        ({"question": "a", "image_ids": []}, 422, "invalid-input"),
        ({"question": "a", "image_ids": ["0" * 32] * 9}, 422, "invalid-input"),
        ({"question": "a", "image_ids": ["0" * 32]}, 404, "image-not-found"),
        ({"question": "a", "image_ids": ["nope"]}, 404, "image-not-found"),
        ({"question": "a", "temperature": 1}, 422, "invalid-input"),
        ({"question": "red"}, 404, "no-images"),
    ],
)
def test_bad_questions(
    client: TestClient, body: dict[str, Any], status: int, kind: str, stream: bool
) -> None:
    assert_problem(client.post("/ask", json={**body, "stream": stream}), status, kind)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        '{"question": NaN}',
        '{"question": "a", "limit": NaN}',
        '{"question": "a", "limit": 1e999}',
        '{"question": "\\ud800"}',
        '{"question": "a", "image_ids": ["\\ud800"]}',
        '{"question": "a", "max_tokens": 1.5}',
    ],
)
def test_bad_json_is_422(client: TestClient, content: str) -> None:
    response = client.post("/ask", content=content, headers={"content-type": "application/json"})
    assert_problem(response, 422, "invalid-input")


def test_a_body_nested_beyond_reason_is_a_problem(client: TestClient) -> None:
    response = client.post(
        "/ask", content="[" * 500_000, headers={"content-type": "application/json"}
    )
    assert response.status_code in (400, 422)
    assert response.headers["content-type"] == "application/problem+json"


def test_only_json_is_taken(client: TestClient) -> None:
    assert_problem(client.post("/ask", data={"question": "a"}), 415, "unsupported-media-type")
    assert_problem(client.post("/ask", content=b"{}"), 415, "unsupported-media-type")


def test_a_json_body_over_its_limit_is_413(client: TestClient) -> None:
    assert_problem(client.post("/ask", json={"question": "a" * 2_000_000}), 413, "upload-too-large")


@pytest.mark.parametrize("stream", [False, True])
def test_a_question_too_long_for_the_model_is_422(start: Start, stream: bool) -> None:
    client = start(max_question_chars=10_000)
    (red,) = add(client, "red")
    body = {"question": "a " * 600, "image_ids": [red], "stream": stream}
    assert_problem(client.post("/ask", json=body), 422, "too-long-for-model")


def test_an_error_in_the_middle_of_a_stream_ends_it_with_a_problem(start: Start) -> None:
    def fail_at_three(piece: Piece) -> None:
        if piece.completion_tokens == 3 and piece.text:
            raise RuntimeError("secret of the house")

    client = start(
        lambda _: Models(FakeSummaryModel(), InterruptedGenerator(fail_at_three)),
        raise_errors=False,
    )
    (red,) = add(client, "red")
    question = {"question": "count", "image_ids": [red]}
    response = client.post("/ask", json={**question, "stream": True})
    *pieces, (last, problem) = events(response.text)
    assert [name for name, _ in pieces] == ["piece", "piece"]
    assert last == "error"
    assert problem["status"] == 500
    assert problem["request_id"] == response.headers["x-request-id"]
    assert "secret" not in response.text
    assert_problem(client.post("/ask", json=question), 500, "internal-error")
    short = client.post("/ask", json={**question, "max_tokens": 2})
    assert short.json()["answer"] == "1 2"


def worker_of(client: TestClient) -> ModelWorker:
    worker: ModelWorker = client.app.state.runtime.worker  # type: ignore[attr-defined]
    return worker


def test_a_full_queue_is_429(start: Start) -> None:
    client = start(queue_size=1, max_files=1)
    (red,) = add(client, "red")
    with worker_of(client).answers.slots(1):
        for stream in (False, True):
            response = client.post(
                "/ask", json={"question": "a", "image_ids": [red], "stream": stream}
            )
            assert_problem(response, 429, "queue-full")
            assert "retry-after" in response.headers
    assert worker_of(client).answers.slots_taken == 0


def test_tokens_of_another_model_are_409(start: Start) -> None:
    class OtherModel(FakeSummaryModel):
        fingerprint = "f" * 64

    first = start()
    (red,) = add(first, "red")
    first.__exit__(None, None, None)
    second = start(lambda _: Models(OtherModel(), InterruptedGenerator(lambda _: None)))
    assert_problem(
        second.post("/ask", json={"question": "a", "image_ids": [red]}), 409, "wrong-fingerprint"
    )
    assert_problem(second.post("/ask", json={"question": "red"}), 404, "no-images")


def test_a_deadline_that_passes_is_504(start: Start) -> None:
    client = start(deadline_s=1e-9)
    assert_problem(client.get("/search", params={"q": "red"}), 504, "deadline-exceeded")
