"""Odd requests at the border: keys and texts that are not Unicode, HEAD, Allow, form parts."""

from __future__ import annotations

import re
from typing import Any

import pytest
from fastapi.routing import iter_route_contexts
from fastapi.testclient import TestClient
from httpx import Response
from pydantic import ValidationError
from starlette.routing import Mount

from precis_client import Precis
from precis_client.errors import RequestInvalid
from service.app import create_app
from service.runtime import Runtime
from service.settings import Settings
from tests.fakes.model import fake_models
from tests.service.conftest import add, assert_problem, picture

HALF = r"\ud800"  # of a surrogate pair, as JSON spells it
JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    "where", [f'{{"{HALF}": 1}}', f'{{"a": {{"{HALF}": 1}}}}', f'{{"a": "{HALF}"}}']
)
def test_a_filter_that_is_not_unicode_is_422(client: TestClient, where: str) -> None:
    response = client.get("/images", params={"where": where})
    assert_problem(response, 422, "bad-filter")


@pytest.mark.parametrize(
    "body",
    [
        f'{{"question": "a", "{HALF}": 1}}',
        f'{{"question": "{HALF}"}}',
        f'{{"question": "a", "image_ids": ["{HALF}"]}}',
        f'{{"question": "a", "tags": ["{HALF}"]}}',
        f'{{"question": "a", "where": {{"{HALF}": 1}}}}',
    ],
)
def test_a_question_that_is_not_unicode_is_422(client: TestClient, body: str) -> None:
    response = client.post("/ask", content=body, headers=JSON)
    assert response.status_code == 422
    assert response.json()["status"] == 422


@pytest.mark.parametrize("path", ["/livez", "/", "/images", "/openapi.json"])
def test_head_is_get_without_the_body(client: TestClient, path: str) -> None:
    whole = client.get(path)
    head = client.head(path)
    assert head.status_code == whole.status_code == 200
    assert head.content == b""
    assert head.headers["content-length"] == whole.headers["content-length"]


def test_allow_names_all_methods_of_a_path(client: TestClient) -> None:
    (red,) = add(client, "red")
    allowed = {
        "/images": "GET, HEAD, OPTIONS, POST",
        f"/images/{red}": "DELETE, GET, HEAD, OPTIONS",
        "/livez": "GET, HEAD, OPTIONS",
    }
    for path, methods in allowed.items():
        response = client.patch(path)
        assert_problem(response, 405)
        assert response.headers["allow"] == methods


def methods_by_path() -> dict[str, set[str]]:
    """The methods of each path in the route table, with an `x` for what a path leaves open."""
    app = create_app(Runtime(Settings(), fake_models))
    methods: dict[str, set[str]] = {}
    for route in iter_route_contexts(app.routes):
        path = re.sub(r"\{[^}]*\}", "x", route.path)
        if isinstance(route.original_route, Mount):
            path, of_route = f"{path}/x", {"GET"}
        else:
            # That of MCP has no list, and takes POST alone.
            of_route = set(route.methods or {"POST"})
        methods.setdefault(path, set()).update(of_route)
    return methods


PATHS = methods_by_path()


@pytest.mark.parametrize("path", PATHS)
def test_every_path_says_what_it_allows(client: TestClient, path: str) -> None:
    expected = PATHS[path] | {"OPTIONS"}
    if "GET" in expected:
        expected.add("HEAD")
    asked = {"origin": "https://example.org", "access-control-request-method": "GET"}
    for headers in ({}, asked):
        response = client.options(path, headers=headers)
        assert response.status_code == 204
        assert response.content == b""
        assert response.headers["allow"] == ", ".join(sorted(expected))
        assert not [name for name in response.headers if name.startswith("access-")]
        assert response.headers["x-content-type-options"] == "nosniff"
    refused = client.patch(path)
    assert refused.status_code == 405
    assert refused.headers["allow"] == response.headers["allow"]


@pytest.mark.parametrize(
    "path", [path for path, methods in PATHS.items() if "GET" in methods]
)
def test_every_path_that_can_be_read_answers_head(
    client: TestClient, path: str
) -> None:
    read, asked = client.get(path), client.head(path)
    assert asked.status_code == read.status_code
    assert asked.content == b""
    assert asked.headers["content-type"] == read.headers["content-type"]


def post_part(client: TestClient, parameters: bytes) -> Response:
    """Uploads a picture as a part with these parameters of its Content-Disposition."""
    name = b'Content-Disposition: form-data; name="file"' + parameters
    body = b"--b\r\n" + name + b"\r\n\r\n" + picture() + b"\r\n--b--\r\n"
    headers = {"content-type": "multipart/form-data; boundary=b"}
    return client.post("/images", content=body, headers=headers)


@pytest.mark.parametrize(
    ("parameters", "filename"),
    [
        (b"; filename*=UTF-8''caf%C3%A9.png", "café.png"),
        (b"; filename*=iso-8859-1''caf%E9.png", "café.png"),
        (b"; filename*=UTF-8''a%22b%5Cc.png", 'a"b\\c.png'),
        (b"; filename*=UTF-8''%ff.png", "\ufffd.png"),
        (b"; filename*=nothing''a.png", "a.png"),
        (b"; filename=\"plain.png\"; filename*=UTF-8''other.png", "plain.png"),
    ],
)
def test_a_file_may_be_named_by_an_extended_parameter_alone(
    client: TestClient, parameters: bytes, filename: str
) -> None:
    response = post_part(client, parameters)
    assert response.status_code == 201, response.text
    (image,) = response.json()["images"]
    assert image["filename"] == filename


def test_a_part_that_is_no_file_is_refused_in_our_words(client: TestClient) -> None:
    body = assert_problem(post_part(client, b""), 422, "invalid-input")
    assert "UploadFile" not in str(body)
    assert "filename" in body["detail"]


@pytest.mark.parametrize(
    ("path", "body", "faults"),
    [
        ("/ask", "[]", [(["body"], "Input should be an object")]),
        (
            "/ask",
            '{"question": "a", "history": ["a"], "list[a]": 1}',
            [
                (["body", "history", 0], "Input should be an object"),
                (["body", "list[a]"], "Extra inputs are not permitted"),
            ],
        ),
        (
            "/ask",
            f'{{"question": "{HALF}"}}',
            [(["body", "question"], "has half of a surrogate pair")],
        ),
        (
            "/ask",
            '{"question": "a", "format": {"type": "choice", "choice": 1, "options": [""]}}',
            [
                (
                    ["body", "format", "options", 0],
                    "String should have at least 1 characters",
                ),
                (["body", "format", "choice"], "Extra inputs are not permitted"),
            ],
        ),
        (
            "/ask",
            f'{{"question": "a", "format": {{"type": "choice", "options": ["{"a" * 201}"]}}}}',
            [
                (
                    ["body", "format", "options", 0],
                    "String should have at most 200 characters",
                )
            ],
        ),
        (
            "/ask",
            '{"question": "a", "format": {"type": "no"}}',
            [
                (
                    ["body", "format"],
                    "`type` should be one of 'yes_no', 'choice', 'number', 'json_schema', not 'no'",
                )
            ],
        ),
        (
            "/ask",
            '{"question": "a", "format": {}}',
            [(["body", "format"], "`type` is missing")],
        ),
        (
            "/ask",
            '{"question": "a", "type": "limit", "limit": "x"}',
            [
                (
                    ["body", "limit"],
                    "Input should be a valid integer, unable to parse string as an integer",
                ),
                (["body", "type"], "Extra inputs are not permitted"),
            ],
        ),
        (
            "/embeddings",
            '{"texts": "a"}',
            [(["body", "texts"], "Input should be a list")],
        ),
        (
            "/jobs",
            "{",
            [
                (
                    ["body"],
                    "This is not JSON: Expecting property name enclosed in double quotes",
                )
            ],
        ),
    ],
)
def test_what_is_wrong_is_told_in_the_interface_s_words(
    client: TestClient, path: str, body: str, faults: list[tuple[list[Any], str]]
) -> None:
    response = client.post(path, content=body, headers=JSON)
    problem = assert_problem(response, 422, "invalid-input")
    told = [(fault["location"], fault["message"]) for fault in problem["errors"]]
    assert told == faults


def test_openai_s_clients_are_told_nothing_of_our_classes(client: TestClient) -> None:
    part = {"type": "image_url", "image_url": "precis://a"}
    bodies: list[tuple[str, Any]] = [
        ("chat/completions", {"messages": [{"role": "user", "content": [part]}]}),
        (
            "chat/completions",
            {"messages": [{"role": "user", "content": [{"type": "a"}]}]},
        ),
        ("embeddings", {"input": [[1, 2]]}),
        ("responses", {"input": 5}),
    ]
    for route, body in bodies:
        response = client.post(f"/v1/{route}", json={"model": "precis", **body})
        message = response.json()["error"]["message"]
        assert response.status_code == 400
        for ours in ("function-after", "Part", "MessageInput", "ImageUrl", "["):
            assert ours not in message


def test_openai_s_optional_members_may_be_null(client: TestClient) -> None:
    names = ("n", "stream", "stream_options", "max_tokens", "response_format", "stop")
    body = {"model": "precis", "messages": [{"role": "user", "content": "red?"}]}
    add(client, "red")
    response = client.post("/v1/chat/completions", json=body | dict.fromkeys(names))
    assert response.status_code == 200, response.text
    body = {"model": "precis", "input": "red"} | dict.fromkeys(
        ("encoding_format", "user")
    )
    assert client.post("/v1/embeddings", json=body).status_code == 200


@pytest.mark.parametrize("key", ["schl\u00fcssel-\u00f6", "line\nbreak", "\udcff" * 9])
def test_a_key_that_no_header_can_hold_is_refused_at_the_start(key: str) -> None:
    with pytest.raises(ValidationError, match="ASCII"):
        Settings(api_key=key)


def test_what_the_python_client_cannot_send_is_an_error_of_its_own() -> None:
    with Precis("http://nowhere.invalid") as precis:
        for send in (precis.search, precis.ask, precis.image):
            with pytest.raises(RequestInvalid):
                send("\udcff")
    with pytest.raises(RequestInvalid):
        Precis(api_key="schl\u00fcssel-\u00f6")
