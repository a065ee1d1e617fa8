"""Whatever is sent: never a 5xx, never an error that is not a problem, and the service goes on."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.app import create_app
from service.runtime import Runtime
from service.settings import Settings
from tests.fakes.decode import shared_decode
from tests.fakes.model import fake_models
from tests.service.conftest import ask, files, picture, upload, wait_until_ready

JSON = {"content-type": "application/json"}


def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    lists = st.lists(inner, max_size=4)
    objects = st.dictionaries(st.text(max_size=8), inner, max_size=4)
    return lists | objects


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
)
JSON_VALUES = st.recursive(SCALARS, containers, max_leaves=12)
OPTIONAL = ("image_ids", "limit", "max_tokens", "stream", "other")
FORMATS = st.fixed_dictionaries(
    {"type": st.sampled_from(["yes_no", "choice", "number", "json_schema"])},
    optional={"options": JSON_VALUES, "schema": JSON_VALUES},
)
QUESTIONS = st.fixed_dictionaries(
    {"question": JSON_VALUES},
    optional=dict.fromkeys(OPTIONAL, JSON_VALUES) | {"format": JSON_VALUES | FORMATS},
)
IMPORTS = st.fixed_dictionaries(
    {"path": JSON_VALUES},
    optional=dict.fromkeys(("metadata", "tokens", "other"), JSON_VALUES),
)
ANYTHING = settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder: Path = tmp_path_factory.mktemp("library")
    runtime = Runtime(Settings(data_dir=folder), fake_models, decode=shared_decode())
    with TestClient(create_app(runtime)) as client:
        wait_until_ready(runtime)
        upload(client, "red")
        yield client


def utf8(text: str) -> bytes:
    """The bytes of a text, halves of surrogate pairs included."""
    return text.encode("utf-8", "surrogatepass")


def check(response: Any) -> None:
    assert response.status_code < 500, response.text
    if response.status_code >= 400:
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["status"] == response.status_code


@ANYTHING
@given(JSON_VALUES | QUESTIONS, st.sampled_from(["/ask", "/ask/library"]))
def test_any_json_to_ask(client: TestClient, body: Any, path: str) -> None:
    content = json.dumps(body)
    check(client.post(path, content=content, headers=JSON))


@ANYTHING
@given(FORMATS, st.sampled_from(["/ask", "/ask/library"]))
def test_any_form_of_an_answer(client: TestClient, form: Any, path: str) -> None:
    content = json.dumps({"question": "red", "format": form})
    check(client.post(path, content=content, headers=JSON))


@ANYTHING
@given(JSON_VALUES | IMPORTS)
def test_any_json_to_jobs(client: TestClient, body: Any) -> None:
    check(client.post("/jobs", content=json.dumps(body), headers=JSON))


@ANYTHING
@given(st.text(max_size=50), st.text(max_size=50), st.text(max_size=8))
def test_any_query_of_images(
    client: TestClient, text: str, image_id: str, weight: str
) -> None:
    form = {"q": text, "image_id": image_id, "text_weight": weight}
    parts: list[Any] = files(picture("red"))
    for name, value in form.items():
        parts.append((name, (None, utf8(value))))
    check(client.post("/search", files=parts))


PARTS = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["text", "image_url", "input_image"]),
        "text": JSON_VALUES,
        "image_url": st.fixed_dictionaries({"url": st.text() | st.just("data:,")}),
    },
)
MESSAGES = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["user", "assistant", "system"]) | JSON_VALUES,
        "content": st.text() | st.lists(PARTS, max_size=3) | JSON_VALUES,
    }
)
CHATS = st.fixed_dictionaries(
    {"model": st.just("precis")},
    optional={
        "messages": st.lists(MESSAGES, max_size=3) | JSON_VALUES,
        "input": st.text() | st.lists(MESSAGES, max_size=3) | JSON_VALUES,
        "max_tokens": JSON_VALUES,
        "response_format": JSON_VALUES,
        "stream": st.booleans(),
        "text": JSON_VALUES,
        "tools": JSON_VALUES,
    },
)


@ANYTHING
@given(
    JSON_VALUES | CHATS,
    st.sampled_from(["chat/completions", "responses", "embeddings"]),
)
def test_any_json_to_openai_s_routes(client: TestClient, body: Any, route: str) -> None:
    content = json.dumps(body)
    response = client.post(f"/v1/{route}", content=content, headers=JSON)
    assert response.status_code < 500, response.text
    if response.status_code >= 400:
        assert isinstance(response.json()["error"]["message"], str)


@ANYTHING
@given(JSON_VALUES | st.fixed_dictionaries({"texts": JSON_VALUES}))
def test_any_json_to_embeddings(client: TestClient, body: Any) -> None:
    content = json.dumps(body)
    check(client.post("/embeddings", content=content, headers=JSON))


@ANYTHING
@given(st.binary(max_size=200))
def test_any_bytes_as_tokens(client: TestClient, body: bytes) -> None:
    check(client.post("/tokens", files={"file": ("a", body)}))


@ANYTHING
@given(st.binary(max_size=200))
def test_any_bytes_to_ask(client: TestClient, body: bytes) -> None:
    check(client.post("/ask", content=body, headers=JSON))


@ANYTHING
@given(st.text(max_size=300), st.text(max_size=8))
def test_any_search(client: TestClient, text: str, limit: str) -> None:
    parameters = {"q": utf8(text), "limit": limit or 1}
    check(client.get("/search", params=parameters))


@ANYTHING
@given(st.binary(max_size=300), st.text(max_size=50))
def test_any_upload(client: TestClient, content: bytes, metadata: str) -> None:
    pictures = files(content, picture("blue"))
    form = {"metadata": utf8(metadata)}
    check(client.post("/images", files=pictures, data=form))
    check(client.post("/search", files=files(content)))


@ANYTHING
@given(JSON_VALUES)
def test_any_metadata(client: TestClient, metadata: Any) -> None:
    response = upload(client, "green", metadata=json.dumps(metadata))
    check(response)
    for image in response.json().get("images", []):
        response = client.delete(f"/images/{image['id']}")
        assert response.status_code == 204
        # Quotation marks compose with nothing, so the JSON text has the texts' composed forms.
        text = json.dumps(metadata, ensure_ascii=False)
        composed = json.loads(unicodedata.normalize("NFC", text))
        assert image["metadata"] == composed or isinstance(metadata, list)


@ANYTHING
@given(st.binary(max_size=200))
def test_any_multipart(client: TestClient, body: bytes) -> None:
    headers = {"content-type": "multipart/form-data; boundary=b"}
    content = b"--b\r\n" + body + b"\r\n--b--\r\n"
    check(client.post("/images", content=content, headers=headers))


@ANYTHING
@given(st.text(min_size=1, max_size=40), st.sampled_from(["GET", "DELETE"]))
def test_any_address(client: TestClient, name: str, method: str) -> None:
    address = utf8(name).hex("%")
    check(client.request(method, f"/images/%{address}"))
    check(client.get("/images", params={"cursor": utf8(name)}))


def test_after_all_that_it_still_works(client: TestClient) -> None:
    assert ask(client, "red")["answer"] == "I see red."
