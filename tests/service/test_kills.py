"""Killed in the middle of work of every kind, the service has all that it acknowledged.

Clients upload, delete, make and delete collections, and start jobs, until SIGKILL ends the service.
Started again, it has every acknowledged image with the bytes that were uploaded, none that was
deleted, and finishes every job. Each round goes on with what the round before left.
"""

from __future__ import annotations

import hashlib
import logging
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from index.data_folder import library_folders
from index.fsck import check_folder
from tests.eventually import eventually
from tests.service.conftest import Body, ids, picture, search, send
from tests.service.processes import FakeServer

log = logging.getLogger(__name__)

Image = tuple[str | None, str]  # collection and id
PATIENCE_S = 600.0  # on a machine that has others to serve; nothing here takes so long
OLDER = 20  # images of earlier rounds that are looked at in each


@dataclass
class Expected:
    """What the service has acknowledged. Work that was cut off stands nowhere."""

    images: dict[Image, bytes] = field(default_factory=dict)  # their originals
    gone: set[Image] = field(default_factory=set)
    collections: set[str] = field(default_factory=set)
    gone_collections: set[str] = field(default_factory=set)
    jobs: dict[str, list[bytes]] = field(default_factory=dict)  # the pictures of each
    numbers: Iterator[int] = field(default_factory=lambda: iter(range(1, 10**9)))

    def picture(self) -> bytes:
        """A picture that was never sent before."""
        number = next(self.numbers)
        return picture("red", (1 + number % 1000, 1 + number // 1000))


def id_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]


class Clients:
    """Clients at work, one of each kind, until the service is killed."""

    def __init__(self, url: str, expected: Expected, enough: int) -> None:
        """`killable` is set once `enough` requests are acknowledged."""
        self.killable = threading.Event()
        self._url = url
        self._expected = expected
        self._left = enough
        self._lock = threading.Lock()
        self._failures: list[BaseException] = []
        works = (self._upload, self._delete, self._collect, self._begin_jobs)
        self._threads = [
            threading.Thread(target=self._repeat, args=(work,)) for work in works
        ]
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        """Returns once all have noticed that the service is dead; raises their failures."""
        for thread in self._threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive()
        if self._failures:
            raise self._failures[0]

    def _repeat(self, work: Callable[[httpx.Client], None]) -> None:
        with httpx.Client(base_url=self._url, timeout=PATIENCE_S) as client:
            try:
                while True:
                    work(client)
            except httpx.TransportError:
                return  # killed
            except BaseException as error:
                self._failures.append(error)
                self.killable.set()

    def _acknowledged(self, response: httpx.Response, *statuses: int) -> httpx.Response:
        assert response.status_code in statuses, response.text
        with self._lock:
            self._left -= 1
            if self._left <= 0:
                self.killable.set()
        return response

    def _store(self, client: httpx.Client, collection: str | None) -> None:
        data = self._expected.picture()
        params = {} if collection is None else {"collection": collection}
        self._acknowledged(send(client, data, params=params), 201)
        self._expected.images[collection, id_of(data)] = data

    def _upload(self, client: httpx.Client) -> None:
        self._store(client, None)

    def _delete(self, client: httpx.Client) -> None:
        stored = [image for image in list(self._expected.images) if image[0] is None]
        if len(stored) < 2:
            client.get("/livez")
            return
        image = stored[len(stored) // 2]
        del self._expected.images[image]
        self._acknowledged(client.delete(f"/images/{image[1]}"), 204)
        self._expected.gone.add(image)

    def _collect(self, client: httpx.Client) -> None:
        expected = self._expected
        name = f"c{next(expected.numbers)}"
        self._acknowledged(client.put(f"/collections/{name}"), 201)
        expected.collections.add(name)
        self._store(client, name)
        # The oldest goes.
        if len(expected.collections) > 3:
            oldest = min(expected.collections, key=lambda name: int(name[1:]))
            expected.collections.discard(oldest)
            # A copy in one step: other clients add theirs meanwhile.
            for image in list(expected.images):
                if image[0] == oldest:
                    expected.images.pop(image, None)
            self._acknowledged(client.delete(f"/collections/{oldest}"), 204)
            expected.gone_collections.add(oldest)

    def _begin_jobs(self, client: httpx.Client) -> None:
        contents = [self._expected.picture() for _ in range(2)]
        response = send(client, *contents, params={"wait": "false"})
        job = self._acknowledged(response, 202).json()["id"]
        self._expected.jobs[job] = contents


@contextmanager
def served(data_dir: Path) -> Iterator[FakeServer]:
    server = FakeServer(data_dir, PRECIS_KEEP="original")
    try:
        eventually(server.is_ready, PATIENCE_S)
        yield server
    finally:
        server.kill()


def all_ids(client: httpx.Client, collection: str | None) -> set[str]:
    params: Body = {"limit": 200} | ({"collection": collection} if collection else {})
    found: set[str] = set()
    while True:
        page = client.get("/images", params=params).json()
        found.update(ids(page["images"]))
        if page["next_cursor"] is None:
            return found
        params["cursor"] = page["next_cursor"]


def finish_jobs(client: httpx.Client, expected: Expected) -> None:
    """Waits for every acknowledged job; its pictures are stored from then on."""
    for job, contents in list(expected.jobs.items()):
        eventually(
            lambda job=job: client.get(f"/jobs/{job}").json()["state"] == "done",  # type: ignore[misc]
            PATIENCE_S,
        )
        files = client.get(f"/jobs/{job}").json()["files"]
        assert [file["id"] for file in files] == [id_of(data) for data in contents]
        assert {file["status"] for file in files} <= {"created", "exists"}
        for data in contents:
            expected.images[None, id_of(data)] = data
        del expected.jobs[job]


def check(client: httpx.Client, expected: Expected, older: list[Image]) -> None:
    """The service has what it acknowledged, whole, and nothing that was deleted."""
    finish_jobs(client, expected)
    bodies = client.get("/collections").json()["collections"]
    names = {body["name"] for body in bodies}
    assert names >= expected.collections
    assert not names & expected.gone_collections
    for collection in (None, *expected.collections):
        stored = all_ids(client, collection)
        assert stored >= {id for name, id in expected.images if name == collection}
        assert not stored & {id for name, id in expected.gone if name == collection}
    for collection, image_id in older:
        params = {} if collection is None else {"collection": collection}
        response = client.get(f"/images/{image_id}/original", params=params)
        assert response.content == expected.images[collection, image_id]
    hits = set(ids(search(client, "red", limit=200)))
    assert hits
    assert not hits & {id for _, id in expected.gone}


def survive(data_dir: Path, kills: int, seed: int) -> None:
    choice = random.Random(seed)
    expected = Expected()
    before: set[Image] = set()
    # Each start but the first looks at what the kill before it has left.
    for kill in range(kills + 1):
        with (
            served(data_dir) as server,
            httpx.Client(base_url=server.url, timeout=PATIENCE_S) as client,
        ):
            if kill:
                check(client, expected, _looked_at(expected, before, choice))
                log.info("survived %d of %d", kill, kills)
            if kill == kills:
                break
            before = set(expected.images)
            clients = Clients(server.url, expected, enough=choice.randint(8, 60))
            assert clients.killable.wait(PATIENCE_S)
            server.kill()
            clients.join()
        for folder in library_folders(data_dir):
            assert check_folder(folder.path).findings == []


def _looked_at(
    expected: Expected, before: set[Image], choice: random.Random
) -> list[Image]:
    """The images of the last round, and some that have been there for longer."""
    new = [image for image in expected.images if image not in before]
    kept = [image for image in expected.images if image in before]
    return new + choice.sample(kept, min(OLDER, len(kept)))


def test_killed_once(tmp_path: Path) -> None:
    survive(tmp_path / "data", kills=1, seed=1)


@pytest.mark.long
def test_killed_five_hundred_times(tmp_path: Path) -> None:
    survive(tmp_path / "data", kills=500, seed=1000)
