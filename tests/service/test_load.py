"""Many clients of mixed work at once, a tenth of them slow or hanging up: each that waits is
answered, and nothing is left behind.
"""

from __future__ import annotations

import random
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.settings import MIB
from tests.eventually import eventually
from tests.service.conftest import Body, picture, send
from tests.service.processes import FakeServer
from tests.threads import run_threads

BUSY = 429
PAUSE_S = 0.2  # between the pieces of a slow upload or answer
SAMPLE_S = 5.0  # between two looks at the memory
GROWTH = 1.03  # of the resident memory, from the sixth minute to the last
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
        self._requests = 0
        self.statuses: Counter[int] = Counter()

    def run(self, goes_on: Callable[[int], bool]) -> None:
        """Works for as long as `goes_on` says of the number of requests so far."""
        works = self._works()
        with self._client:
            while goes_on(self._requests):
                self._requests += 1
                self._choice.choice(works)()
            for image in self._images:
                assert self._client.get(f"/images/{image}").status_code == 200

    def _works(self) -> tuple[Callable[[], None], ...]:
        return (
            self._upload,
            self._search,
            self._ask,
            self._stream,
            self._list,
            self._delete,
        )

    def _note(self, response: httpx.Response, *expected: int) -> bool:
        self.statuses[response.status_code] += 1
        assert response.status_code in (*expected, BUSY), response.text
        return response.status_code != BUSY

    def _picture(self) -> bytes:
        """A picture that nobody sent before."""
        self._sent += 1
        return picture("red", (1 + self._number, self._sent))

    def _upload(self) -> None:
        response = send(self._client, self._picture())
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
            response = self._client.post("/ask", json=self._counting(20))
            if self._note(response, 200):
                assert "event: done" in response.text

    def _counting(self, tokens: int) -> Body:
        """A question whose answer comes in so many pieces."""
        return {
            "question": "count",
            "image_ids": self._images[-1:],
            "max_tokens": tokens,
            "stream": True,
        }

    def _list(self) -> None:
        self._note(self._client.get("/images", params={"limit": 20}), 200)

    def _delete(self) -> None:
        if self._images:
            image = self._images.pop(0)
            if not self._note(self._client.delete(f"/images/{image}"), 204):
                self._images.append(image)


class _HungUp(Exception):
    """Raised by a client amid its own request, so that its connection is closed."""


class TryingWorker(Worker):
    """A client that sends and reads slowly, or hangs up."""

    def _works(self) -> tuple[Callable[[], None], ...]:
        return (
            self._upload,
            self._upload_slowly,
            self._hang_up_amid_an_upload,
            self._hang_up_before_an_answer,
            self._read_slowly,
            self._hang_up_amid_an_answer,
        )

    def _body(self, is_whole: bool) -> Iterator[bytes]:
        """A multipart upload in pieces; one that is not whole is broken off."""
        yield b"--b\r\nContent-Disposition: form-data; "
        yield b'name="file"; filename="slow.png"\r\n\r\n'
        data = self._picture()
        for start in range(0, len(data), 30):
            threading.Event().wait(PAUSE_S)
            yield data[start : start + 30]
            if not is_whole:
                raise _HungUp
        yield b"\r\n--b--\r\n"

    def _send_in_pieces(self, is_whole: bool) -> httpx.Response:
        headers = {"content-type": "multipart/form-data; boundary=b"}
        content = self._body(is_whole)
        return self._client.post("/images", content=content, headers=headers)

    def _upload_slowly(self) -> None:
        response = self._send_in_pieces(is_whole=True)
        if self._note(response, 201):
            self._images += [image["id"] for image in response.json()["images"]]

    def _hang_up_amid_an_upload(self) -> None:
        with suppress(_HungUp):
            self._send_in_pieces(is_whole=False)

    def _hang_up_before_an_answer(self) -> None:
        with suppress(httpx.ReadTimeout):
            self._client.get("/search", params={"q": "red"}, timeout=0.001)

    def _read_slowly(self) -> None:
        self._read(after_each_piece_s=PAUSE_S, is_whole=True)

    def _hang_up_amid_an_answer(self) -> None:
        self._read(after_each_piece_s=0.0, is_whole=False)

    def _read(self, after_each_piece_s: float, is_whole: bool) -> None:
        if not self._images:
            return
        body = self._counting(20)
        with self._client.stream("POST", "/ask", json=body) as response:
            for _ in response.iter_raw():
                if not is_whole:
                    break
                threading.Event().wait(after_each_piece_s)
        self.statuses[response.status_code] += 1
        assert response.status_code in (200, BUSY)


class Memory:
    """The resident memory of a service and its decoders, sampled on a thread."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._ended = threading.Event()
        self.samples: list[int] = []  # bytes, SAMPLE_S apart
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join(30)

    def _sample(self) -> None:
        while not self._ended.wait(SAMPLE_S):
            processes = [self._process, *self._process.children(recursive=True)]
            total = 0
            for process in processes:
                with suppress(psutil.NoSuchProcess):  # a decoder that was replaced
                    total += process.memory_info().rss
            self.samples.append(total)


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


def worker_of(url: str, number: int) -> Worker:
    """One in ten is trying."""
    kind = TryingWorker if number % 10 == 0 else Worker
    return kind(url, number)


def bear(data_dir: Path, count: int, goes_on: Callable[[int], bool]) -> list[int]:
    """What the clients expect holds; the samples of the memory meanwhile, in bytes."""
    server = FakeServer(data_dir)
    memory = Memory(server.process.pid)
    try:
        eventually(server.is_ready)
        workers = [worker_of(server.url, number) for number in range(count)]
        run_threads(count, lambda number: workers[number].run(goes_on))
        memory.stop()
        statuses: Counter[int] = Counter()
        for worker in workers:
            statuses += worker.statuses
        assert statuses[200] > 0
        assert statuses[201] > 0
        eventually(lambda: is_at_rest(server.url))
        print(f"answers by status: {dict(statuses)}")
        return memory.samples
    finally:
        memory.stop()
        server.kill()


def test_a_few_clients_of_mixed_work(tmp_path: Path) -> None:
    bear(tmp_path / "data", 4, lambda requests: requests < 12)


@pytest.mark.long
def test_64_clients_of_mixed_work_for_ten_minutes(tmp_path: Path) -> None:
    until = time.monotonic() + 600
    samples = bear(tmp_path / "data", 64, lambda _: time.monotonic() < until)
    a_minute = round(60 / SAMPLE_S)
    middle = statistics.median(samples[5 * a_minute : 6 * a_minute])
    last = statistics.median(samples[-a_minute:])
    shown = [round(sample / MIB) for sample in samples[::a_minute]]
    print(f"resident memory each minute, MiB: {shown}; {last / middle:.3f} times")
    assert last / middle <= GROWTH
