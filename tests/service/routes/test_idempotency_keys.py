"""`Idempotency-Key` on uploads: sent again, a request is answered again and not done again."""

from __future__ import annotations

import threading
from uuid import uuid4

import pytest
from starlette.testclient import TestClient

from tests.fakes.model import Gate, InterruptedModel
from tests.service.conftest import (
    Start,
    assert_problem,
    factory,
    files,
    in_background,
    listed,
    picture,
    stop,
    upload,
)


@pytest.fixture
def key() -> dict[str, str]:
    """A key that no other test has used."""
    return {"Idempotency-Key": uuid4().hex}


def test_the_same_request_gets_the_first_answer(
    client: TestClient, key: dict[str, str]
) -> None:
    first = upload(client, "red", headers=key)
    assert first.status_code == 201
    assert first.json()["images"][0]["status"] == "created"
    assert "Idempotency-Replayed" not in first.headers
    again = upload(client, "red", headers=key)
    assert again.status_code == 201
    assert again.json() == first.json()
    assert again.headers["Idempotency-Replayed"] == "true"
    plain = upload(client, "red")
    assert plain.status_code == 200
    assert plain.json()["images"][0]["status"] == "exists"


def test_the_answer_outlives_the_service(start: Start, key: dict[str, str]) -> None:
    first = start()
    answer = upload(first, "red", headers=key)
    stop(first)
    assert upload(start(), "red", headers=key).json() == answer.json()


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
    client: TestClient, key: dict[str, str], change: dict[str, object]
) -> None:
    client.put("/collections/album")
    upload(client, "red", headers=key)
    request = {"files": files(picture("red")), "headers": key, **change}
    assert_problem(client.post("/images", **request), 422, "idempotency-key-reused")
    assert len(listed(client)) == 1


def test_a_failed_request_may_be_sent_again(
    client: TestClient, key: dict[str, str]
) -> None:
    response = client.post("/images", files=files(b"no picture"), headers=key)
    assert response.status_code == 415
    response = upload(client, "red", headers=key)
    assert response.status_code == 201


def test_a_key_in_work_is_refused(start: Start, key: dict[str, str]) -> None:
    gate = Gate()
    armed = threading.Event()

    def before(_: object) -> None:
        if armed.is_set():
            gate.pass_through()

    client = start(factory(InterruptedModel(before)))
    armed.set()
    with in_background(lambda: upload(client, "red", headers=key)) as answers:
        gate.wait_for_arrival()
        second = upload(client, "red", headers=key)
        gate.opened.set()
    assert_problem(second, 409, "idempotency-key-in-use")
    assert answers[0].status_code == 201


@pytest.mark.parametrize("key", ["", "x" * 256])
def test_keys_of_no_or_too_great_length_are_refused(
    client: TestClient, key: str
) -> None:
    response = upload(client, "red", headers={"Idempotency-Key": key})
    assert_problem(response, 422, "invalid-input")
