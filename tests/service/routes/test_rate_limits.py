"""Limits on what one API key may send."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from precis_client.retries import RetryPolicy, retry_after_s
from service.rate_limits import Limits
from tests.service.conftest import Start, assert_problem, listed, picture, send
from tests.service.routes.test_access import make_key


def test_a_key_has_its_requests_a_minute_for_itself(
    start: Start, data_dir: Path
) -> None:
    first, second = make_key(data_dir, "read"), make_key(data_dir, "read")
    client = start(requests_per_minute=3)
    for _ in range(3):
        assert client.get("/images", headers=first).status_code == 200
    response = client.get("/images", headers=first)
    assert_problem(response, 429, "rate-limited")
    assert 1 <= int(response.headers["retry-after"]) <= 60
    # The client understands it, and waits.
    assert RetryPolicy().pause_s(response, 0.25) == retry_after_s(response)
    assert client.get("/images", headers=second).status_code == 200
    assert client.get("/livez").status_code == 200


def test_a_key_s_own_limit_replaces_that_of_the_settings(
    start: Start, data_dir: Path
) -> None:
    few = make_key(data_dir, "read", limits=Limits(requests_per_minute=1))
    many = make_key(data_dir, "read", limits=Limits(requests_per_minute=4))
    client = start(requests_per_minute=2)
    for headers, allowed in ((few, 1), (many, 4), (make_key(data_dir, "read"), 2)):
        for _ in range(allowed):
            assert client.get("/images", headers=headers).status_code == 200
        response = client.get("/images", headers=headers)
        assert_problem(response, 429, "rate-limited")
        assert f"may send {allowed} requests" in response.json()["detail"]


def test_a_key_has_its_own_bytes_a_day(start: Start, data_dir: Path) -> None:
    writer = make_key(data_dir, "write", limits=Limits(body_bytes_per_day=10_000))
    client = start()
    response = send(client, bytes(20_000), headers=writer)
    assert_problem(response, 429, "rate-limited")
    assert send(client, picture(), headers=writer).status_code == 201


def test_refused_keys_count_nowhere(start: Start, data_dir: Path) -> None:
    reader = make_key(data_dir, "read")
    client = start(requests_per_minute=2)
    for _ in range(3):
        assert client.get("/images").status_code == 401
        assert client.delete("/images/a", headers=reader).status_code == 403
    assert client.get("/images", headers=reader).status_code == 200


def test_under_v1_the_limit_has_openai_s_shape(start: Start) -> None:
    client = start(requests_per_minute=1)
    assert client.get("/v1/models").status_code == 200
    response = client.get("/v1/models")
    assert response.status_code == 429
    assert response.json()["error"]["type"] == "rate_limit_error"
    assert response.json()["error"]["code"] == "rate_limited"


def test_a_body_beyond_the_day_s_bytes_is_refused_unread(start: Start) -> None:
    small, large = picture(), bytes(20_000)
    client = start(body_bytes_per_day=10_000)
    response = send(client, large)
    assert_problem(response, 429, "rate-limited")
    assert int(response.headers["retry-after"]) == 86_400
    # What was refused used up nothing.
    assert send(client, small).status_code == 201
    assert len(listed(client)) == 1


def test_a_body_of_unknown_length_is_counted_as_it_comes(start: Start) -> None:
    client = start(body_bytes_per_day=10_000)

    def pieces() -> Iterator[bytes]:
        for _ in range(4):
            yield bytes(4_000)

    headers = {"content-type": "application/json"}
    response = client.post("/ask", content=pieces(), headers=headers)
    assert_problem(response, 429, "rate-limited")
    # Longer than the client waits: its caller is told.
    assert RetryPolicy().pause_s(response, 0.25) is None
    assert_problem(send(client, picture()), 429, "rate-limited")
