"""Two service processes over one store: whichever is asked, the answer is the same."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.eventually import eventually
from tests.service.conftest import ids, listed, record, search, search_image, uploaded
from tests.service.test_server import FakeServer
from tests.stores.postgres_server import PostgresServer

pytestmark = pytest.mark.stores

COLOURS = ("red", "green", "blue", "yellow", "black", "white")


@pytest.fixture
def replicas(
    shared_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[FakeServer]]:
    """Both ready, each with a data folder of its own."""
    monkeypatch.setenv("PRECIS_STORE", shared_url)
    with ExitStack() as stack:
        servers = []
        for name in ("a", "b"):
            server = FakeServer(tmp_path / name)
            stack.callback(server.kill)
            servers.append(server)
        for server in servers:
            eventually(server.is_ready)
        yield servers


@pytest.fixture
def clients(replicas: list[FakeServer]) -> Iterator[list[httpx.Client]]:
    with ExitStack() as stack:
        yield [
            stack.enter_context(httpx.Client(base_url=server.url, timeout=60))
            for server in replicas
        ]


def test_what_one_acknowledged_every_one_finds(clients: list[httpx.Client]) -> None:
    one, other = clients
    (red,) = ids(uploaded(one, "red"))
    assert ids(search_image(other, "red")) == [red]
    (blue,) = ids(uploaded(other, "blue"))
    assert search_image(one, "blue")[0]["id"] == blue
    assert set(ids(search(one, "blue"))) == {red, blue}
    assert ids(listed(one)) == ids(listed(other)) == [red, blue]
    one.put(f"/images/{red}/metadata", json={"kept": True}).raise_for_status()
    assert record(other, red)["metadata"] == {"kept": True}


def test_what_one_deleted_none_serves(clients: list[httpx.Client]) -> None:
    one, other = clients
    red, blue = ids(uploaded(one, "red", "blue"))
    assert search_image(other, "red")[0]["id"] == red
    assert one.delete(f"/images/{red}").status_code == 204
    assert ids(search_image(other, "red")) == [blue]
    for path in ("", "/thumbnail", "/tokens"):
        assert other.get(f"/images/{red}{path}").status_code == 404


def test_collections_are_those_of_both(clients: list[httpx.Client]) -> None:
    one, other = clients
    assert one.put("/collections/cats").status_code in (200, 201)
    in_cats = {"collection": "cats"}
    (red,) = ids(uploaded(one, "red", params=in_cats))
    assert ids(listed(other, **in_cats)) == [red]
    assert one.delete("/collections/cats").status_code == 204
    assert other.get("/images", params=in_cats).status_code == 404


def test_searches_follow_writers_of_both(clients: list[httpx.Client]) -> None:
    """A search that begins after an acknowledgement agrees with it, whoever is asked."""
    failures: list[str] = []

    def work(number: int) -> None:
        writer, reader = clients[number % 2], clients[1 - number % 2]
        colour = COLOURS[number]
        for _ in range(4):
            (image_id,) = ids(uploaded(writer, colour))
            if image_id not in ids(search_image(reader, colour, limit=50)):
                failures.append(f"{colour} not found after it was stored")
            writer.delete(f"/images/{image_id}").raise_for_status()
            if image_id in ids(search_image(reader, colour, limit=50)):
                failures.append(f"{colour} found after it was deleted")

    threads = [
        threading.Thread(target=work, args=(number,)) for number in range(len(COLOURS))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_nothing_is_lost_when_one_is_killed(
    replicas: list[FakeServer], clients: list[httpx.Client], tmp_path: Path
) -> None:
    one, other = clients
    stored = ids(uploaded(one, *COLOURS))
    replicas[0].kill()
    assert ids(listed(other)) == stored
    again = FakeServer(tmp_path / "a")
    try:
        eventually(again.is_ready)
        with httpx.Client(base_url=again.url, timeout=60) as client:
            for colour, image_id in zip(COLOURS, stored, strict=True):
                assert search_image(client, colour)[0]["id"] == image_id
    finally:
        again.kill()


@pytest.mark.parametrize("shared_url", ["url"], indirect=True)
def test_a_database_that_is_away_is_503_and_comes_back(
    server: PostgresServer, clients: list[httpx.Client]
) -> None:
    (red,) = ids(uploaded(clients[0], "red"))
    server.stop()
    refused = clients[1].get(f"/images/{red}")
    assert refused.status_code == 503
    assert refused.json()["type"] == "urn:precis:problem:store-unreachable"
    assert int(refused.headers["retry-after"]) > 0
    server.start()
    for client in clients:
        assert record(client, red)["id"] == red
        assert search_image(client, "red")[0]["id"] == red
