"""What a browser is told with every response: what a page may load, and which other sites may read.

The tests in a real browser are in tests/web.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urljoin

import pytest
from fastapi.routing import iter_route_contexts
from fastapi.testclient import TestClient
from httpx import Response
from pydantic import ValidationError

from service.api_pages import FILES
from service.settings import Settings
from tests.service.conftest import Start, add

PAGES = ("/", "/docs", "/redoc")
ADDRESS = re.compile(r'(?:src|href|spec-url)="([^"]*)"|url: \'([^\']*)\'')
ELSEWHERE = "https://elsewhere.example"


def requests_of_all_routes(client: TestClient) -> Iterator[tuple[str, str]]:
    """Method and path of every route, and of a file of every mount."""
    app: Any = client.app
    for route in iter_route_contexts(app.routes):
        path = re.sub(r"\{[^}]*\}", "a", route.path)
        for method in route.methods or ("GET",):
            yield method, path
    yield "GET", "/web/app.js"
    yield "GET", f"{FILES}/swagger-ui.css"


def policy_of(response: Response) -> dict[str, list[str]]:
    """What the response's Content-Security-Policy says, by directive."""
    directives = response.headers["content-security-policy"].split(";")
    words = [directive.split() for directive in directives]
    return {name: values for name, *values in words}


def assert_secured(response: Response) -> None:
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["referrer-policy"] == "no-referrer"
    assert response.headers["cross-origin-resource-policy"] == "same-origin"
    policy = policy_of(response)
    assert policy["default-src"] in (["'self'"], ["'none'"])
    assert policy["base-uri"] == policy["frame-ancestors"] == ["'none'"]
    assert "'unsafe-inline'" not in policy.get("script-src", policy["default-src"])
    # No source but the service itself.
    for sources in policy.values():
        assert not any("//" in source or "*" in source for source in sources)


# It asks the application for its routes.
@pytest.mark.deployments("single", "replicas")
def test_every_route_answers_with_security_headers(client: TestClient) -> None:
    add(client, "red")
    for method, path in requests_of_all_routes(client):
        assert_secured(client.request(method, path))


def test_so_do_refusals_and_failures(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = start(raise_errors=False, api_key="correct horse")
    assert_secured(client.get("/images"))
    assert_secured(client.get("/nowhere"))
    too_long = {"content-length": "1000000000"}
    assert_secured(client.post("/ask", content=b"", headers=too_long))
    runtime: Any = client.app.state.runtime  # type: ignore[attr-defined]
    monkeypatch.delattr(type(runtime.metrics), "render")
    response = client.get("/metrics", headers={"authorization": "Bearer correct horse"})
    assert response.status_code == 500
    assert_secured(response)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_loads_nothing_from_elsewhere(client: TestClient, page: str) -> None:
    html = client.get(page).text
    addresses = [first or second for first, second in ADDRESS.findall(html)]
    loaded = [address for address in addresses if not address.startswith("#")]
    assert loaded
    for address in loaded:
        assert "//" not in address
        assert client.get(urljoin(page, address)).status_code == 200


@pytest.mark.parametrize("page", ["/docs", "/redoc"])
def test_a_page_of_the_api_admits_its_own_inline_scripts_alone(
    client: TestClient, page: str
) -> None:
    response = client.get(page)
    scripts = policy_of(response)["script-src"]
    hashes = [source for source in scripts if source.startswith("'sha256-")]
    assert len(hashes) == response.text.count("<script>")
    assert set(scripts) == {"'self'", *hashes}


def preflight(client: TestClient, origin: str) -> Response:
    """What a browser asks before a page sends JSON or a key to another site."""
    headers = {
        "origin": origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type",
    }
    return client.options("/ask", headers=headers)


def allowed_origin(response: Response) -> str | None:
    return response.headers.get("access-control-allow-origin")


def test_pages_of_other_sites_may_read_nothing(client: TestClient) -> None:
    assert allowed_origin(preflight(client, ELSEWHERE)) is None
    response = client.get("/images", headers={"origin": ELSEWHERE})
    assert not any(name.startswith("access-control") for name in response.headers)


def test_pages_of_the_origins_in_the_settings_may(start: Start) -> None:
    client = start(cors_origins=f"https://app.example, {ELSEWHERE}")
    response = preflight(client, ELSEWHERE)
    assert response.status_code == 200
    assert allowed_origin(response) == ELSEWHERE
    assert "POST" in response.headers["access-control-allow-methods"]
    response = client.get("/images", headers={"origin": ELSEWHERE})
    assert allowed_origin(response) == ELSEWHERE
    assert "access-control-allow-credentials" not in response.headers
    assert allowed_origin(preflight(client, "https://third.example")) is None


@pytest.mark.parametrize(
    "origins", ["*", "app.example", "https://app.example/page", "https://*.example"]
)
def test_what_is_no_origin_is_refused_at_the_start(origins: str) -> None:
    with pytest.raises(ValidationError, match="origin"):
        Settings(cors_origins=origins)


@pytest.mark.parametrize("path", ["/", "/web/app.js", "/web/samples/cat.jpg"])
def test_no_file_of_the_page_is_used_without_asking_whether_it_has_changed(
    client: TestClient, path: str
) -> None:
    first = client.get(path)
    assert first.status_code == 200
    assert first.headers["cache-control"] == "no-cache"
    again = client.get(path, headers={"If-None-Match": first.headers["etag"]})
    assert again.status_code in (200, 304)
    assert again.headers["cache-control"] == "no-cache"


def test_the_page_names_only_files_that_are_there(client: TestClient) -> None:
    files = ADDRESS.findall(client.get("/").text)
    assert files
    for first, second in files:
        address = urljoin("/", first or second)
        assert client.get(address.partition("#")[0]).status_code == 200, address
