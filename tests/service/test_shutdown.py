"""What becomes of the requests that still run when the service's grace period is over."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import pytest

from service.models import ModelFactory
from tests.eventually import eventually
from tests.fakes.model import Gate, InterruptedModel, fake_models, held_after
from tests.service.conftest import (
    assert_problem,
    factory,
    ids,
    in_background,
    listed,
    upload,
    uploaded,
)
from tests.service.test_server import Served, connection_to, count_to

HEAD = (
    b"POST /images HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n"
    b"Content-Type: multipart/form-data; boundary=b\r\n\r\n"
)


def without_grace(models: ModelFactory, data_dir: Path) -> Served:
    """A service that gives the requests in progress no time when it is stopped."""
    served = Served(models, data_dir, {"batch_size": 1})
    served.server.config.timeout_graceful_shutdown = 0
    return served


@pytest.fixture
def no_failure_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Neither with a traceback, nor as an answer that the service's application did not give."""
    yield
    records = caplog.get_records("call")
    assert not [record for record in records if record.exc_info]
    assert not [record for record in records if "ASGI" in record.getMessage()]


def assert_shutting_down(response: httpx.Response) -> None:
    body = assert_problem(response, 503, "shutting-down")
    assert body["detail"] == "The service is shutting down."
    assert response.headers["retry-after"] == "5"
    assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.usefixtures("no_failure_is_logged")
def test_an_upload_in_work_is_503_and_what_it_has_stored_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "service.access")
    gate = Gate()
    seen: list[object] = [None] * 3  # so that nothing is held while the model warms up

    def hold_third(batch: Sequence[object]) -> None:
        seen.append(batch)
        if len(seen) == 3:
            gate.pass_through()

    served = without_grace(factory(InterruptedModel(hold_third)), tmp_path / "data")
    seen.clear()
    try:
        library = served.runtime.services().library
        with in_background(
            lambda: upload(served.client, "red", "green", "blue")
        ) as results:
            gate.wait_for_arrival()
            eventually(lambda: library.stats().images > 0)
            served.server.should_exit = True
            eventually(lambda: bool(results))
    finally:
        gate.opened.set()
        served.stop()
    assert_shutting_down(results[0])
    access = [record for record in caplog.records if record.name == "service.access"]
    assert " 503 " in access[-1].getMessage()
    again = Served(fake_models, tmp_path / "data", {})
    try:
        stored = set(ids(listed(again.client)))
        assert len(stored) >= 1
        repeated = upload(again.client, "red", "green", "blue").json()["images"]
        existed = {image["id"] for image in repeated if image["status"] == "exists"}
        assert existed == stored
    finally:
        again.stop()


@pytest.mark.usefixtures("no_failure_is_logged")
def test_an_upload_on_its_way_is_503(tmp_path: Path) -> None:
    served = without_grace(fake_models, tmp_path / "data")
    with connection_to(served.url) as connection:
        connection.sendall(HEAD + b"--b\r\n")
        received = served.runtime.metrics.request_body_bytes
        eventually(lambda: received.collect()[0].samples[0].value > 0)
        served.stop()
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503")
    assert json.loads(body)["type"] == "urn:precis:problem:shutting-down"


@pytest.mark.usefixtures("no_failure_is_logged")
@pytest.mark.parametrize("path", ["/ask", "/v1/chat/completions"])
def test_a_stream_ends_with_an_error(
    tmp_path: Path, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    gate, generator = held_after(2)
    served = without_grace(factory(generator=generator), tmp_path / "data")
    try:
        (image,) = uploaded(served.client, "red")
        question = count_to(4, image)
        if path != "/ask":
            content = [
                {"type": "text", "text": "count"},
                {"type": "image_url", "image_url": {"url": f"precis://{image['id']}"}},
            ]
            question = {
                "model": "precis",
                "messages": [{"role": "user", "content": content}],
                "max_tokens": 4,
                "stream": True,
            }
        with served.client.stream("POST", path, json=question) as response:
            lines = response.iter_lines()
            assert response.status_code == 200
            gate.wait_for_arrival()
            served.server.should_exit = True
            eventually(lambda: "Cancel 1 running task" in caplog.text)
            gate.opened.set()
            data = [line for line in lines if line.startswith("data:")]
    finally:
        gate.opened.set()
        served.stop()
    last = json.loads(data[-1].removeprefix("data:"))
    if path == "/ask":
        assert last["type"] == "urn:precis:problem:shutting-down"
    else:
        assert last["error"]["code"] == "shutting_down"
