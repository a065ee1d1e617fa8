"""A service in this process, over the fake model and a real library."""

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
from httpx import Client, Response
from PIL import Image

from compressor.ports import Generator, SummaryModel
from service.app import create_app
from service.models import ModelFactory, Models
from service.runtime import Runtime
from service.settings import Settings
from service.tracing import Tracing
from service.use_cases.images import Decode
from tests.fakes.decode import shared_decode
from tests.fakes.model import (
    FakeGenerator,
    FakeSummaryModel,
    InterruptedModel,
    fake_models,
)

Start = Callable[..., TestClient]
Body = dict[str, Any]


Size = tuple[int, int]


def flat(colour: str | tuple[int, ...], size: Size = (8, 8)) -> Image.Image:
    """An RGB image of one colour."""
    return Image.new("RGB", size, colour)


def picture(colour: str = "red", size: Size = (40, 30), format: str = "PNG") -> bytes:
    """The bytes of a picture of one colour."""
    buffer = io.BytesIO()
    flat(colour, size).save(buffer, format)
    return buffer.getvalue()


def files(*contents: bytes) -> list[tuple[str, tuple[str, bytes, str]]]:
    """A multipart upload of files."""
    return [
        ("file", (f"{number}.png", content, "image/png"))
        for number, content in enumerate(contents)
    ]


def send(
    client: Client,
    *contents: bytes,
    params: Body | None = None,
    headers: Body | None = None,
    **fields: Any,
) -> Response:
    """Uploads files with these bytes, with further form fields."""
    return client.post(
        "/images",
        files=files(*contents),
        data=fields,
        params=params,
        headers=headers,
    )


def upload(client: Client, *colours: str, **options: Any) -> Response:
    """Uploads a picture of each colour; options as of `send`."""
    return send(client, *map(picture, colours), **options)


def uploaded(client: Client, *colours: str, **options: Any) -> list[Body]:
    """What the service answers of each picture of an upload."""
    response = upload(client, *colours, **options)
    assert response.status_code in (200, 201), response.text
    images: list[Body] = response.json()["images"]
    return images


def add(client: Client, *colours: str) -> list[str]:
    """Stores a picture of each colour; their ids."""
    return ids(uploaded(client, *colours))


def statuses(images: list[Body]) -> list[str]:
    """What became of each picture of an upload."""
    return [image["status"] for image in images]


def ids(images: list[Body]) -> list[str]:
    """The ids of images, or of hits."""
    return [image["id"] for image in images]


def listed(client: Client, **parameters: Any) -> list[Body]:
    """The first page of stored images."""
    response = client.get("/images", params=parameters)
    images: list[Body] = response.json()["images"]
    return images


def record(client: Client, image_id: str) -> Body:
    """What the service tells of one image."""
    body: Body = client.get(f"/images/{image_id}").json()
    return body


def search(client: Client, query: str, **parameters: Any) -> list[Body]:
    """The hits for a text."""
    response = client.get("/search", params={"q": query, **parameters})
    hits: list[Body] = response.json()["results"]
    return hits


def search_image(client: Client, colour: str, **parameters: Any) -> list[Body]:
    """The hits for a picture of one colour."""
    pictures = files(picture(colour))
    response = client.post("/search", files=pictures, params=parameters)
    hits: list[Body] = response.json()["results"]
    return hits


def ask(client: Client, question: str, **members: Any) -> Body:
    """The response to a question."""
    response = asked(client, question, **members)
    assert response.status_code == 200, response.text
    body: Body = response.json()
    return body


def asked(client: Client, question: str, **members: Any) -> Response:
    """The response to a question, whatever its status."""
    return client.post("/ask", json={"question": question, **members})


def stop(client: TestClient) -> None:
    """Shuts down the service of this client."""
    client.__exit__(None, None, None)


def counting(batches: list[int]) -> InterruptedModel:
    """A fake model that notes the size of each batch."""
    return InterruptedModel(lambda batch: batches.append(len(batch)))


def factory(
    model: SummaryModel | None = None, generator: Generator | None = None, **extras: Any
) -> ModelFactory:
    """A factory of this model and generator, fakes where they are left out."""
    model = model or FakeSummaryModel()
    generator = generator or FakeGenerator()
    models = Models(model, generator, **extras)
    return lambda _: models


def assert_problem(response: Any, status: int, kind: str | None = None) -> Body:
    """The body of the problem that the response must be."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: Body = response.json()
    assert body["status"] == status
    assert body["title"]
    assert body["request_id"] == response.headers["x-request-id"]
    assert body["type"] == (
        "about:blank" if kind is None else f"urn:precis:problem:{kind}"
    )
    return body


def wait_until_ready(runtime: Runtime) -> None:
    """Returns once the model is warm."""
    assert runtime.worker.loaded.wait(30), "the model never became ready"


@pytest.fixture(autouse=True)
def _no_settings_from_outside(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    for name in os.environ:
        if name.startswith("PRECIS_"):
            monkeypatch.delenv(name)
    home = tmp_path_factory.getbasetemp()
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(home / name))


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
            decode: Decode | None = None,
            tracing: Tracing | None = None,
            **settings: Any,
        ) -> TestClient:
            settings = {"data_dir": data_dir, **settings}
            runtime = Runtime(
                Settings(**settings),
                models,
                decode=decode or shared_decode(),
                tracing=tracing,
            )
            client = TestClient(
                create_app(runtime), raise_server_exceptions=raise_errors
            )
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
