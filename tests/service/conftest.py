"""A service in this process, over the fake model and a real library, for the tests of the routes."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from httpx import Response
from PIL import Image

from compressor.ports import Generator, SummaryModel
from service.app import create_app
from service.models import ModelFactory, Models
from service.runtime import Runtime
from service.settings import Settings
from tests.fakes.model import FakeGenerator, FakeSummaryModel, fake_models

Start = Callable[..., TestClient]


def picture(colour: str = "red", size: tuple[int, int] = (40, 30), format: str = "PNG") -> bytes:
    """The bytes of a picture of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, format)
    return buffer.getvalue()


def files(*contents: bytes) -> list[tuple[str, tuple[str, bytes, str]]]:
    """A multipart upload of files."""
    return [
        ("file", (f"{number}.png", content, "image/png")) for number, content in enumerate(contents)
    ]


def upload(
    client: TestClient,
    *colours: str,
    params: dict[str, str] | None = None,
    headers: dict[str, str] | None = None,
    **fields: Any,
) -> Response:
    """Uploads a picture of each colour, with further form fields."""
    pictures = files(*map(picture, colours))
    return client.post("/images", files=pictures, data=fields, params=params, headers=headers)


def uploaded(client: TestClient, *colours: str, **options: Any) -> list[dict[str, Any]]:
    """What the service answers of each picture of an upload."""
    response = upload(client, *colours, **options)
    assert response.status_code in (200, 201), response.text
    images: list[dict[str, Any]] = response.json()["images"]
    return images


def add(client: TestClient, *colours: str) -> list[str]:
    """Stores a picture of each colour; their ids."""
    return ids(uploaded(client, *colours))


def ids(images: list[dict[str, Any]]) -> list[str]:
    """The ids of images, or of hits."""
    return [image["id"] for image in images]


def listed(client: TestClient, **parameters: Any) -> list[dict[str, Any]]:
    """The first page of stored images."""
    response = client.get("/images", params=parameters)
    images: list[dict[str, Any]] = response.json()["images"]
    return images


def record(client: TestClient, image_id: str) -> dict[str, Any]:
    """What the service tells of one image."""
    body: dict[str, Any] = client.get(f"/images/{image_id}").json()
    return body


def search(client: TestClient, query: str, **parameters: Any) -> list[dict[str, Any]]:
    """The hits for a text."""
    response = client.get("/search", params={"q": query, **parameters})
    hits: list[dict[str, Any]] = response.json()["results"]
    return hits


def search_image(client: TestClient, colour: str, **parameters: Any) -> list[dict[str, Any]]:
    """The hits for a picture of one colour."""
    response = client.post("/search", files=files(picture(colour)), params=parameters)
    hits: list[dict[str, Any]] = response.json()["results"]
    return hits


def ask(client: TestClient, question: str, **members: Any) -> dict[str, Any]:
    """The response to a question."""
    response = asked(client, question, **members)
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


def asked(client: TestClient, question: str, **members: Any) -> Response:
    """The response to a question, whatever its status."""
    return client.post("/ask", json={"question": question, **members})


def stop(client: TestClient) -> None:
    """Shuts down the service of this client."""
    client.__exit__(None, None, None)


def factory(
    model: SummaryModel | None = None, generator: Generator | None = None, **extras: Any
) -> ModelFactory:
    """A factory of this model and generator, fakes where they are left out."""
    models = Models(model or FakeSummaryModel(), generator or FakeGenerator(), **extras)
    return lambda _: models


def assert_problem(response: Any, status: int, kind: str | None = None) -> dict[str, Any]:
    """The body of the problem that the response must be."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert body["status"] == status
    assert body["title"]
    assert body["request_id"] == response.headers["x-request-id"]
    assert body["type"] == ("about:blank" if kind is None else f"urn:precis:problem:{kind}")
    return body


def wait_until_ready(runtime: Runtime) -> None:
    """Returns once the model is warm."""
    assert runtime.worker.loaded.wait(30), "the model never became ready"


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("PRECIS_"):
            monkeypatch.delenv(name)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def start(data_dir: Path) -> Iterator[Start]:
    """Starts a service with settings of the test's; it is ready when this returns."""
    with ExitStack() as stack:

        def start(
            models: ModelFactory = fake_models,
            *,
            wait: bool = True,
            raise_errors: bool = True,
            **settings: Any,
        ) -> TestClient:
            runtime = Runtime(Settings(**{"data_dir": data_dir, **settings}), models)
            client = TestClient(create_app(runtime), raise_server_exceptions=raise_errors)
            stack.enter_context(client)
            if wait:
                wait_until_ready(runtime)
            return client

        yield start


@pytest.fixture
def client(start: Start) -> TestClient:
    return start()


@contextmanager
def in_background(work: Callable[[], Any]) -> Iterator[list[Any]]:
    """Runs `work` on a thread; its result is in the list after the block."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(work()))
    thread.start()
    try:
        yield results
    finally:
        thread.join(30)
        assert not thread.is_alive()
