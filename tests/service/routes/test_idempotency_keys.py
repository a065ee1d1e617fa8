"""`Idempotency-Key` on uploads: sent again, a request is answered again and not done again."""

from __future__ import annotations

import threading

import pytest
from starlette.testclient import TestClient

from compressor.ports import Generator, SummaryModel
from service.models import Models
from tests.fakes.model import FakeGenerator, Gate, InterruptedModel
from tests.service.conftest import Start, assert_problem, files, picture

KEY = {"Idempotency-Key": "one"}


def test_the_same_request_gets_the_first_answer(client: TestClient) -> None:
    first = client.post("/images", files=files(picture("red")), headers=KEY)
    assert (first.status_code, first.json()["images"][0]["status"]) == (201, "created")
    assert "Idempotency-Replayed" not in first.headers
    again = client.post("/images", files=files(picture("red")), headers=KEY)
    assert (again.status_code, again.json()) == (201, first.json())
    assert again.headers["Idempotency-Replayed"] == "true"
    plain = client.post("/images", files=files(picture("red")))
    assert (plain.status_code, plain.json()["images"][0]["status"]) == (200, "exists")


def test_the_answer_outlives_the_service(start: Start) -> None:
    first = start()
    answer = first.post("/images", files=files(picture("red")), headers=KEY)
    first.__exit__(None, None, None)
    assert start().post("/images", files=files(picture("red")), headers=KEY).json() == answer.json()


@pytest.mark.parametrize(
    "change",
    [
        {"files": files(picture("blue"))},
        {"files": [*files(picture("red")), *files(picture("blue"))]},
        {"data": {"metadata": '{"a": 1}'}},
        {"params": {"collection": "album"}},
    ],
    ids=["content", "more", "metadata", "collection"],
)
def test_another_request_with_the_key_is_refused(
    client: TestClient, change: dict[str, object]
) -> None:
    client.put("/collections/album")
    client.post("/images", files=files(picture("red")), headers=KEY)
    request = {"files": files(picture("red")), "headers": KEY, **change}
    assert_problem(client.post("/images", **request), 422, "idempotency-key-reused")  # type: ignore[arg-type]
    assert len(client.get("/images").json()["images"]) == 1


def test_a_failed_request_may_be_sent_again(client: TestClient) -> None:
    assert client.post("/images", files=files(b"no picture"), headers=KEY).status_code == 415
    assert client.post("/images", files=files(picture("red")), headers=KEY).status_code == 201


def test_a_key_in_work_is_refused(start: Start) -> None:
    gate = Gate()
    armed = threading.Event()

    def models(_: object) -> Models:
        def before(_: object) -> None:
            if armed.is_set():
                gate.pass_through()

        summary: SummaryModel = InterruptedModel(before)
        generator: Generator = FakeGenerator()
        return Models(summary, generator)

    client = start(models)
    armed.set()
    answers = []
    first = threading.Thread(
        target=lambda: answers.append(
            client.post("/images", files=files(picture("red")), headers=KEY)
        )
    )
    first.start()
    gate.wait_for_arrival()
    assert_problem(
        client.post("/images", files=files(picture("red")), headers=KEY),
        409,
        "idempotency-key-in-use",
    )
    gate.opened.set()
    first.join()
    assert answers[0].status_code == 201


@pytest.mark.parametrize("key", ["", "x" * 256])
def test_keys_of_no_or_too_great_length_are_refused(client: TestClient, key: str) -> None:
    response = client.post("/images", files=files(picture("red")), headers={"Idempotency-Key": key})
    assert_problem(response, 422, "invalid-input")
