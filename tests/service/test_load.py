"""Many clients of mixed work at once: each is answered, and nothing is left behind."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.eventually import eventually
from tests.service.conftest import picture, send
from tests.service.processes import FakeServer
from tests.threads import run_threads

BUSY = 429
# Left at 0 when everyone is answered.
GAUGES = ("precis_queue_places_taken", "precis_upload_bytes_held")


class Worker:
    """A client that does a bit of everything, over images of its own."""

    def __init__(self, url: str, number: int) -> None:
        self._client = httpx.Client(base_url=url, timeout=120)
        self._choice = random.Random(number)
        self._number = number
        self._sent = 0
        self._images: list[str] = []
        self.statuses: Counter[int] = Counter()

    def run(self, goes_on: Callable[[int], bool]) -> None:
        """Works for as long as `goes_on` says of the number of requests so far."""
        works = (self._upload, self._search, self._ask, self._stream, self._list)
        with self._client:
            while goes_on(self.statuses.total()):
                self._choice.choice((*works, self._delete))()
            for image in self._images:
                assert self._client.get(f"/images/{image}").status_code == 200

    def _note(self, response: httpx.Response, *expected: int) -> bool:
        self.statuses[response.status_code] += 1
        assert response.status_code in (*expected, BUSY), response.text
        return response.status_code != BUSY

    def _upload(self) -> None:
        self._sent += 1
        response = send(self._client, picture("red", (1 + self._number, self._sent)))
        if self._note(response, 201):
            self._images += [image["id"] for image in response.json()["images"]]

    def _search(self) -> None:
        self._note(self._client.get("/search", params={"q": "red"}), 200)

    def _ask(self) -> None:
        if self._images:
            body = {"question": "What is it?", "image_ids": self._images[-1:]}
            response = self._client.post("/ask", json=body)
            if self._note(response, 200):
                assert response.json()["answer"] == "I see red."

    def _stream(self) -> None:
        if self._images:
            body = {
                "question": "count",
                "image_ids": self._images[-1:],
                "max_tokens": 20,
                "stream": True,
            }
            response = self._client.post("/ask", json=body)
            if self._note(response, 200):
                assert "event: done" in response.text

    def _list(self) -> None:
        self._note(self._client.get("/images", params={"limit": 20}), 200)

    def _delete(self) -> None:
        if self._images:
            image = self._images.pop(0)
            if not self._note(self._client.delete(f"/images/{image}"), 204):
                self._images.append(image)


def is_at_rest(url: str) -> bool:
    """Whether nothing waits for the model, and no upload is held."""
    families = text_string_to_metric_families(httpx.get(f"{url}/metrics").text)
    values = [
        sample.value
        for family in families
        for sample in family.samples
        if sample.name in GAUGES
    ]
    assert len(values) >= len(GAUGES)
    return not any(values)


def bear(data_dir: Path, count: int, goes_on: Callable[[int], bool]) -> None:
    server = FakeServer(data_dir)
    try:
        eventually(server.is_ready)
        workers = [Worker(server.url, number) for number in range(count)]
        run_threads(count, lambda number: workers[number].run(goes_on))
        statuses: Counter[int] = Counter()
        for worker in workers:
            statuses += worker.statuses
        assert statuses[200] > 0
        assert statuses[201] > 0
        eventually(lambda: is_at_rest(server.url))
    finally:
        server.kill()


def test_a_few_clients_of_mixed_work(tmp_path: Path) -> None:
    bear(tmp_path / "data", 4, lambda requests: requests < 12)


@pytest.mark.long
def test_64_clients_of_mixed_work_for_ten_minutes(tmp_path: Path) -> None:
    until = time.monotonic() + 600
    bear(tmp_path / "data", 64, lambda _: time.monotonic() < until)
