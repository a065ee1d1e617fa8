"""Every route of the app, walked: without a key, with a wrong one, with one that is too small."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import APIRoute, iter_route_contexts
from fastapi.testclient import TestClient
from starlette.routing import Mount

from service.api_keys import SCOPES, ApiKeys, Scope
from service.app import create_app
from service.rate_limits import NO_LIMITS, Limits
from service.runtime import Runtime
from service.settings import Settings
from tests.fakes.model import fake_models
from tests.service.conftest import (
    Start,
    add,
    assert_problem,
    upload,
)

# What anyone may see: health, the page, and the description of the API.
PUBLIC = {"/", "/livez", "/readyz", "/docs", "/redoc", "/openapi.json"}
PUBLIC_MOUNTS = {"/web", "/docs/files"}
SCOPE_OF = {
    "GET /collections": "read",
    "PUT /collections/{name}": "admin",
    "DELETE /collections/{name}": "admin",
    "GET /images": "read",
    "POST /images": "write",
    "GET /images/{image_id}": "read",
    "GET /images/{image_id}/thumbnail": "read",
    "GET /images/{image_id}/original": "read",
    "GET /images/{image_id}/view": "read",
    "GET /images/{image_id}/similar": "read",
    "GET /images/{image_id}/tokens": "read",
    "POST /tokens": "write",
    "GET /jobs": "read",
    "POST /jobs": "write",
    "GET /jobs/{job_id}": "read",
    "DELETE /jobs/{job_id}": "write",
    "POST /embeddings": "read",
    "GET /v1/models": "read",
    "GET /v1/models/{model:path}": "read",
    "POST /v1/embeddings": "read",
    "POST /v1/chat/completions": "read",
    "POST /v1/responses": "read",
    "PUT /images/{image_id}/metadata": "write",
    "DELETE /images/{image_id}": "write",
    "GET /search": "read",
    "POST /search": "read",
    "POST /ask": "read",
    "POST /ask/library": "read",
    "GET /metrics": "read",
}  # fmt: skip


def walked() -> Iterator[str]:
    """`METHOD /path` of every route that is not public."""
    app = create_app(Runtime(Settings(), fake_models))
    for route in iter_route_contexts(app.routes):
        path = route.path
        if path == "/mcp":
            # The tools' own tests ask it for a key.
            assert not isinstance(route.original_route, APIRoute)
        elif isinstance(route.original_route, Mount):
            assert path in PUBLIC_MOUNTS
        elif path not in PUBLIC:
            assert isinstance(route.original_route, APIRoute)
            for method in sorted(route.methods or ()):
                yield f"{method} {path}"


ROUTES = list(walked())


def make_key(
    folder: Path, scope: Scope, *collections: str, limits: Limits = NO_LIMITS
) -> dict[str, str]:
    """The header with a new key."""
    with closing(ApiKeys(folder)) as keys:
        _, text = keys.create("", scope, collections, limits)
    return {"authorization": f"Bearer {text}"}


def test_the_walk_meets_every_route() -> None:
    assert sorted(ROUTES) == sorted(SCOPE_OF)


@pytest.fixture
def closed(start: Start, data_dir: Path) -> TestClient:
    """A service with collections pets and cars, which needs a key."""
    client = start()
    for name in ("pets", "cars"):
        client.put(f"/collections/{name}")
    make_key(data_dir, "read")
    return client


def address(route: str, collection: str | None) -> tuple[str, str]:
    method, _, path = route.partition(" ")
    path = path.replace("{name}", collection or "pets").replace("{image_id}", "a" * 32)
    return method, path if collection is None else f"{path}?collection={collection}"


def assert_refused(response: Any, route: str, status: int, kind: str) -> None:
    if " /v1/" not in route:
        assert_problem(response, status, kind)
        return
    codes = {
        "not-authorized": "invalid_api_key",
        "key-not-sufficient": "key_not_sufficient",
    }
    assert response.status_code == status
    assert response.json()["error"]["code"] == codes[kind]


def test_no_route_answers_without_the_right_key(
    closed: TestClient, data_dir: Path
) -> None:
    pets = make_key(data_dir, "admin", "pets")
    too_small = {
        "write": make_key(data_dir, "read"),
        "admin": make_key(data_dir, "write"),
    }
    _, text = make_key(data_dir, "admin")["authorization"].split()
    wrong = (
        {},
        {"authorization": f"Bearer {text}x"},
        {"authorization": f"Basic {text}"},
    )
    for route in ROUTES:
        method, path = address(route, None)
        for headers in wrong:
            response = closed.request(method, path, headers=headers)
            assert_refused(response, route, 401, "not-authorized")
            assert response.headers["www-authenticate"] == "Bearer"
        # A route of a collection names it in its path.
        for collection in ("cars",) if "{name}" in route else (None, "cars"):
            response = closed.request(*address(route, collection), headers=pets)
            assert_refused(response, route, 403, "key-not-sufficient")
        needed = SCOPE_OF[route]
        if needed in too_small:
            response = closed.request(method, path, headers=too_small[needed])
            assert_refused(response, route, 403, "key-not-sufficient")
            assert "insufficient_scope" in response.headers["www-authenticate"]


def test_every_route_opens_to_its_own_scope(closed: TestClient, data_dir: Path) -> None:
    headers = {scope: make_key(data_dir, scope) for scope in SCOPES}
    headers_of_pets = {scope: make_key(data_dir, scope, "pets") for scope in SCOPES}
    for route in ROUTES:
        if route.startswith("DELETE /collections"):
            continue
        scope: Scope = SCOPE_OF[route]  # type: ignore[assignment]
        response = closed.request(*address(route, None), headers=headers[scope])
        assert response.status_code not in (401, 403)
        response = closed.request(
            *address(route, "pets"), headers=headers_of_pets[scope]
        )
        assert response.status_code not in (401, 403)


def test_the_collection_named_twice_does_not_pass(
    closed: TestClient, data_dir: Path
) -> None:
    headers = make_key(data_dir, "read", "pets")
    for query in ("collection=pets&collection=cars", "collection=cars&collection=pets"):
        response = closed.get(f"/images?{query}", headers=headers)
        assert_problem(response, 403, "key-not-sufficient")


def test_keys_work_together_with_the_key_of_the_settings(
    start: Start, data_dir: Path
) -> None:
    client = start(api_key="correct horse")
    admin = {"authorization": "Bearer correct horse"}
    reader = make_key(data_dir, "read")
    client.headers = admin  # type: ignore[assignment]
    (red,) = add(client, "red")
    assert client.get("/images", headers=reader).json()["images"][0]["id"] == red
    response = upload(client, "blue", headers=reader)
    assert_problem(response, 403, "key-not-sufficient")


def test_no_key_is_logged(
    closed: TestClient, data_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    headers = make_key(data_dir, "read")
    _, text = headers["authorization"].split()
    with caplog.at_level(logging.DEBUG):
        assert closed.get("/images", headers=headers).status_code == 200
        assert closed.delete("/images/a", headers=headers).status_code == 403
    assert caplog.records
    # A secret may have underscores of its own.
    assert text.split("_", 2)[2] not in caplog.text
