"""Questions, answered at once and as a stream, through HTTP."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from compressor.ports import GenerationLimits, GenerationRequest, Piece
from index.calibration import write_calibration
from precis_client.retries import RetryPolicy
from service.errors import DeadlineExceeded
from service.worker.worker import ModelWorker
from tests.fakes.model import (
    TOKEN_COUNT,
    FakeGenerator,
    FakeSummaryModel,
    InterruptedGenerator,
    made_up_calibration,
)
from tests.service.conftest import (
    Body,
    Start,
    add,
    ask,
    asked,
    assert_problem,
    factory,
    ids,
    send,
    stop,
)


def events(text: str) -> list[tuple[str, Any]]:
    """(name, data) of each server-sent event."""
    found = []
    for block in text.split("\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in block.splitlines())
        found.append((fields["event"], json.loads(fields["data"])))
    return found


def test_a_question_about_a_named_image(client: TestClient) -> None:
    red, blue = add(client, "red", "blue")
    body = ask(client, "What is there?", image_ids=[blue])
    assert body["answer"] == "I see blue."
    assert body["images"] == [
        {"id": blue, "score": None, "model": "fake colours", "mode": "adapters"}
    ]
    assert body["finish_reason"] == "stop"
    assert body["usage"] == {"prompt_tokens": TOKEN_COUNT + 3, "completion_tokens": 3}
    assert set(body["timings_ms"]) == {"find", "first_token", "generate", "total"}
    both = ask(client, "What is there?", image_ids=[blue, red, blue])
    assert both["answer"] == "I see blue red."
    assert ids(both["images"]) == [blue, red]


def test_a_question_continues_a_conversation(client: TestClient) -> None:
    (red,) = add(client, "red")
    history = [
        {"role": "user", "text": "one two"},
        {"role": "assistant", "text": "three"},
    ]
    body = ask(client, "four", image_ids=[red], history=history)
    assert body["answer"] == "I see red."
    assert body["usage"]["prompt_tokens"] == TOKEN_COUNT + 4
    for wrong in (
        [{"role": "system", "text": "a"}],
        [{"role": "user", "text": " "}],
        [{"role": "user", "text": "a" * 2001}],
        history * 33,
    ):
        response = asked(client, "four", history=wrong)
        assert_problem(response, 422, "invalid-input")


def test_an_answer_has_a_confidence(start: Start, tmp_path: Path) -> None:
    client = start()
    (red,) = add(client, "red")
    half = Image.new("RGB", (40, 40), "red")
    half.paste("blue", (0, 0, 20, 40))
    buffer = io.BytesIO()
    half.save(buffer, "PNG")
    (mixed,) = ids(send(client, buffer.getvalue()).json()["images"])
    # Without a calibration it is the generator's own: the fake's is the share of a colour.
    for image, expected in ((red, 1.0), (mixed, 0.5)):
        body = ask(client, "What is there?", image_ids=[image])
        assert body["confidence"] == pytest.approx(expected, abs=0.1)
        assert body["unsure"] is None
    stop(client)
    path = tmp_path / "calibration.json"
    write_calibration(made_up_calibration(threshold=0.7), path)
    client = start(calibration=path)
    for image, expected, unsure in ((red, 0.88, False), (mixed, 0.5, True)):
        question: Body = {"image_ids": [image]}
        body = ask(client, "What is there?", **question)
        assert body["confidence"] == pytest.approx(expected, abs=0.1)
        assert body["unsure"] is unsure
        streamed = asked(client, "What is there?", stream=True, **question)
        *_, (_, whole) = events(streamed.text)
        assert whole["confidence"] == body["confidence"]
        assert whole["unsure"] is unsure


def test_a_generator_may_not_know_probabilities(start: Start) -> None:
    class Tacit(FakeGenerator):
        def generate(
            self,
            requests: Sequence[GenerationRequest],
            limits: Sequence[GenerationLimits],
        ) -> Iterator[Piece]:
            for piece in super().generate(requests, limits):
                yield replace(piece, mean_probability=None)

    client = start(factory(generator=Tacit()))
    (red,) = add(client, "red")
    body = ask(client, "What is there?", image_ids=[red])
    assert (body["confidence"], body["unsure"]) == (None, None)


def test_without_ids_it_searches_first(client: TestClient) -> None:
    add(client, "red", "blue")
    (green,) = add(client, "green")
    body = ask(client, "Where is something green in sight")
    assert body["answer"] == "I see green."
    assert ids(body["images"]) == [green]
    assert body["images"][0]["score"] > 0.9
    assert len(ask(client, "green", limit=3)["images"]) == 3


def test_an_answer_ends_at_its_longest(client: TestClient) -> None:
    (red,) = add(client, "red")
    body = ask(client, "count", image_ids=[red], max_tokens=3)
    assert body["answer"] == "1 2 3"
    assert body["finish_reason"] == "length"
    assert body["usage"]["completion_tokens"] == 3


def test_a_stream_gives_pieces_then_the_whole(client: TestClient) -> None:
    (red,) = add(client, "red")
    question: Body = {"image_ids": [red], "max_tokens": 4}
    response = asked(client, "count", stream=True, **question)
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-cache"
    assert response.headers["x-accel-buffering"] == "no"
    *pieces, (last, whole) = events(response.text)
    assert pieces == [("piece", {"text": f"{number} "}) for number in (1, 2, 3, 4)]
    assert last == "done"
    at_once = ask(client, "count", **question)
    del whole["timings_ms"], at_once["timings_ms"]
    assert whole == at_once


UNKNOWN = "0" * 32
JSON = {"content-type": "application/json"}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "members",
    [
        {},
        {"question": ""},
        {"question": " \n"},
        {"question": "a" * 100_000},
        {"question": 3},
        {"question": "a", "limit": 0},
        {"question": "a", "limit": 9},
        {"question": "a", "max_tokens": 0},
        {"question": "a", "max_tokens": 100_000},
        {"question": "a", "image_ids": []},
        {"question": "a", "image_ids": [UNKNOWN] * 9},
        {"question": "a", "temperature": 1},
    ],
)
def test_bad_questions_are_422(client: TestClient, members: Body, stream: bool) -> None:
    response = client.post("/ask", json={**members, "stream": stream})
    assert_problem(response, 422, "invalid-input")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("image_id", [UNKNOWN, "nope"])
def test_a_question_about_an_unknown_image_is_404(
    client: TestClient, image_id: str, stream: bool
) -> None:
    response = asked(client, "a", image_ids=[image_id], stream=stream)
    assert_problem(response, 404, "image-not-found")


@pytest.mark.parametrize("stream", [False, True])
def test_an_empty_library_answers_nothing(client: TestClient, stream: bool) -> None:
    response = asked(client, "red", stream=stream)
    assert_problem(response, 404, "no-images")


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
    response = client.post("/ask", content=content, headers=JSON)
    assert_problem(response, 422, "invalid-input")


def test_a_body_nested_beyond_reason_is_a_problem(client: TestClient) -> None:
    response = client.post("/ask", content="[" * 500_000, headers=JSON)
    assert response.status_code in (400, 422)
    assert response.headers["content-type"] == "application/problem+json"


def test_only_json_is_taken(client: TestClient) -> None:
    form = client.post("/ask", data={"question": "a"})
    nothing = client.post("/ask", content=b"{}")
    for response in (form, nothing):
        assert_problem(response, 415, "unsupported-media-type")


def test_a_json_body_over_its_limit_is_413(client: TestClient) -> None:
    response = asked(client, "a" * 2_000_000)
    assert_problem(response, 413, "upload-too-large")


@pytest.mark.parametrize("stream", [False, True])
def test_a_question_too_long_for_the_model_is_422(start: Start, stream: bool) -> None:
    client = start(max_question_chars=10_000)
    (red,) = add(client, "red")
    response = asked(client, "a " * 600, image_ids=[red], stream=stream)
    assert_problem(response, 422, "too-long-for-model")


def test_a_prompt_is_limited_in_tokens(start: Start) -> None:
    client = start(max_prompt_tokens=10)
    (red,) = add(client, "red")
    assert ask(client, "a b c d e f", image_ids=[red])["usage"]["prompt_tokens"] == 10
    turns = [{"role": "user", "text": "a b"}, {"role": "assistant", "text": "c"}]
    for members in ({"history": turns}, {"history": turns, "stream": True}):
        response = asked(client, "d e f g", image_ids=[red], **members)
        body = assert_problem(response, 422, "too-long-for-model")
        assert "10 tokens, this one has 11" in body["detail"]


def test_an_error_in_the_middle_of_a_stream_ends_it_with_a_problem(
    start: Start,
) -> None:
    def fail_at_three(piece: Piece) -> None:
        if piece.completion_tokens == 3 and piece.text:
            raise RuntimeError("secret of the house")

    generator = InterruptedGenerator(fail_at_three)
    client = start(factory(generator=generator), raise_errors=False)
    (red,) = add(client, "red")
    response = asked(client, "count", image_ids=[red], stream=True)
    *pieces, (last, problem) = events(response.text)
    assert [name for name, _ in pieces] == ["piece", "piece"]
    assert last == "error"
    assert problem["status"] == 500
    assert problem["request_id"] == response.headers["x-request-id"]
    assert "secret" not in response.text
    response = asked(client, "count", image_ids=[red])
    assert_problem(response, 500, "internal-error")
    short = ask(client, "count", image_ids=[red], max_tokens=2)
    assert short["answer"] == "1 2"


def worker_of(client: TestClient) -> ModelWorker:
    worker: ModelWorker = client.app.state.runtime.worker  # type: ignore[attr-defined]
    return worker


def test_a_full_queue_is_429(start: Start) -> None:
    client = start(queue_size=1, max_files=1)
    (red,) = add(client, "red")
    with worker_of(client).answers.slots(1):
        for stream in (False, True):
            response = asked(client, "a", image_ids=[red], stream=stream)
            assert_problem(response, 429, "queue-full")
            assert "retry-after" in response.headers
    assert worker_of(client).answers.slots_taken == 0


def test_tokens_of_another_model_are_409(start: Start) -> None:
    class OtherModel(FakeSummaryModel):
        fingerprint = "f" * 64

    first = start()
    (red,) = add(first, "red")
    stop(first)
    second = start(factory(OtherModel()))
    response = asked(second, "a", image_ids=[red])
    assert_problem(response, 409, "wrong-fingerprint")
    response = asked(second, "red")
    assert_problem(response, 404, "no-images")


# No replica gets ready within such a deadline.
@pytest.mark.deployments("single")
def test_a_deadline_that_passes_is_504(start: Start) -> None:
    client = start(deadline_s=1e-9)
    response = client.get("/search", params={"q": "red"})
    assert_problem(response, 504, "deadline-exceeded")
    assert RetryPolicy().pause_s(response, 0.25) == DeadlineExceeded.retry_after_s


FORMS = [
    ({"type": "yes_no"}, "Yes"),
    ({"type": "choice", "options": ["blue", "red"]}, "red"),
    ({"type": "number"}, "1"),
    ({"type": "json_schema", "schema": {"type": "boolean"}}, "true"),
]


@pytest.mark.parametrize(("form", "answer"), FORMS)
def test_an_answer_has_the_form_asked_for(
    start: Start, form: Body, answer: str
) -> None:
    client = start(factory(calibration=None))
    (red,) = add(client, "red")
    body = ask(client, "What?", image_ids=[red], format=form)
    assert body["answer"] == answer
    assert body["finish_reason"] == "stop"
    assert body["unsure"] is None


@pytest.mark.parametrize(
    ("form", "kind"),
    [
        ({"type": "regex"}, "invalid-input"),
        ({"type": "choice", "options": []}, "invalid-input"),
        ({"type": "choice", "options": [""]}, "invalid-input"),
        ({"type": "choice", "options": ["a\nb"]}, "invalid-input"),
        ({"type": "json_schema"}, "invalid-input"),
        ({"type": "json_schema", "schema": {"title": "a" * 20_000}}, "invalid-input"),
        ({"type": "json_schema", "schema": {"type": "banana"}}, "bad-answer-format"),
    ],
)
def test_forms_that_no_answer_can_have(
    client: TestClient, form: Body, kind: str
) -> None:
    (red,) = add(client, "red")
    for stream in (False, True):
        response = asked(client, "What?", image_ids=[red], format=form, stream=stream)
        assert_problem(response, 422, kind)


def test_a_form_comes_before_the_rule_about_text(start: Start) -> None:
    client = start(factory(reads_text=False))
    (red,) = add(client, "red")
    body = ask(
        client, "What does the sign say?", image_ids=[red], format={"type": "yes_no"}
    )
    assert (body["answer"], body["source"]) == ("Yes", "model")
