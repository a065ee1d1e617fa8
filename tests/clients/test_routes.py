"""The client beside the service's description of itself: no route or parameter is left out."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest

from precis_client import routes
from precis_client.calls import Call
from precis_client.routes import Selection
from precis_client.uploads import PictureUpload
from tests.service.test_openapi import GOLDEN

ID = "0" * 32
FILE = PictureUpload("a.png", b"1")
SELECTION = Selection({"year": 2020}, ["a"], 5, 2, "newest")
QUESTION: dict[str, Any] = {
    "limit": 2,
    "max_tokens": 3,
    "format": {"type": "yes_no"},
    "history": [{"role": "user", "text": "Hello"}],
    "where": {"year": 2020},
    "tags": ["a"],
    "stream": True,
}
# Each function of `routes` with every option it has.
CALLS: dict[str, Callable[[], Call[Any]]] = {
    "add_image": lambda: routes.add_image(FILE, {"a": 1}, 2),
    "add_images": lambda: routes.add_images([FILE, FILE], [{}, {}], 2),
    "add_images_later": lambda: routes.add_images_later([FILE], {"a": 1}, 2),
    "add_tokens": lambda: routes.add_tokens([b"1"]),
    "ask": lambda: routes.ask("?", image_ids=[ID], library=False, **QUESTION),
    "ask the library": lambda: routes.ask(
        "?", image_ids=None, library=True, **QUESTION
    ),
    "cancel_job": lambda: routes.cancel_job(ID),
    "create_collection": lambda: routes.create_collection("a"),
    "delete_collection": lambda: routes.delete_collection("a"),
    "delete_image": lambda: routes.delete_image(ID),
    "embed_texts": lambda: routes.embed_texts(["a"]),
    "get_image": lambda: routes.get_image(ID),
    "get_job": lambda: routes.get_job(ID, 10, 5),
    "get_original": lambda: routes.get_original(ID),
    "get_ready": lambda: routes.get_ready(),
    "get_thumbnail": lambda: routes.get_thumbnail(ID),
    "get_tokens": lambda: routes.get_tokens(ID),
    "get_view": lambda: routes.get_view(ID, 640),
    "import_pictures": lambda: routes.import_pictures("a", {"b": 1}, 2),
    "list_collections": lambda: routes.list_collections(),
    "list_images": lambda: routes.list_images(9, "next", "newest", SELECTION, "0a"),
    "list_jobs": lambda: routes.list_jobs(9, "next"),
    "list_models": lambda: routes.list_models(),
    "put_metadata": lambda: routes.put_metadata(ID, {"a": 1}),
    "search_image": lambda: routes.search_image([FILE], [ID], "a", 0.5, SELECTION),
    "search_text": lambda: routes.search_text("a", 0.5, SELECTION),
    "similar_images": lambda: routes.similar_images(ID, SELECTION),
}
# Routes under /v1 are for clients of OpenAI's interface; operators have clients of their own.
LEFT_TO_OTHERS = {
    ("get", "/livez"),
    ("get", "/metrics"),
    ("get", "/v1/models/{model}"),
    ("post", "/v1/chat/completions"),
    ("post", "/v1/embeddings"),
    ("post", "/v1/responses"),
}


@pytest.fixture(scope="module")
def document() -> Any:
    return json.loads(GOLDEN.read_text())


def request_of(call: Call[Any]) -> httpx.Request:
    with httpx.Client(base_url="http://precis.test") as http:
        return call.request(http)


def route_of(document: Any, request: httpx.Request) -> tuple[str, str]:
    """Method and path template of a request."""
    parts = request.url.path.split("/")
    for path in document["paths"]:
        template = path.split("/")
        if len(template) != len(parts):
            continue
        if all(
            ours == theirs or theirs[:1] == "{"
            for ours, theirs in zip(parts, template, strict=True)
        ):
            return request.method.lower(), path
    raise AssertionError(request.url.path)


def names_in(request: httpx.Request) -> set[str]:
    """The names of everything that a request says: query, headers, body."""
    names = set(parse_qs(request.url.query.decode()))
    names |= {name.lower() for name in request.headers}
    body = request.read()
    if request.headers.get("content-type", "").startswith("application/json"):
        names |= set(json.loads(body))
    for part in body.split(b'form-data; name="')[1:]:
        names.add(part.partition(b'"')[0].decode())
    return names


def names_of(document: Any, operation: Any) -> set[str]:
    """The names of everything that a route takes, beside what is in its path."""
    names = {
        parameter["name"].lower()
        for parameter in operation.get("parameters", [])
        if parameter["in"] != "path"
    }
    for content in operation.get("requestBody", {}).get("content", {}).values():
        reference = content["schema"].get("$ref")
        if reference is not None:
            schema = document["components"]["schemas"][reference.rpartition("/")[2]]
            names |= set(schema["properties"])
    return names - {"collection"}  # which a client has for all its calls


def test_the_table_has_every_function() -> None:
    functions = {
        name
        for name, member in inspect.getmembers(routes, inspect.isfunction)
        if member.__module__ == routes.__name__ and not name.startswith("_")
    }
    assert functions == CALLS.keys() - {"ask the library"}


def test_every_route_and_parameter_has_a_call(document: Any) -> None:
    said: dict[tuple[str, str], set[str]] = {}
    for make in CALLS.values():
        request = request_of(make())
        said.setdefault(route_of(document, request), set()).update(names_in(request))
    missing = {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if (method, path) in LEFT_TO_OTHERS:
                continue
            lacking = names_of(document, operation) - said.get((method, path), set())
            if (method, path) not in said or lacking:
                missing[method, path] = lacking
    assert missing == {}


def test_nothing_is_both_covered_and_left_out(document: Any) -> None:
    covered = {route_of(document, request_of(make())) for make in CALLS.values()}
    assert covered & LEFT_TO_OTHERS == set()
    for method, path in LEFT_TO_OTHERS:
        assert method in document["paths"][path]
