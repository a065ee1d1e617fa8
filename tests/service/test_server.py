"""What only shows over real sockets: streams, hang-ups, uploads without end, and the life of the
process.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from service.models import ModelFactory
from service.peers import PeerLimits
from service.runtime import Runtime
from service.server import listening, server_of
from service.settings import MIB, Settings
from tests.eventually import eventually
from tests.fakes.decode import shared_decode
from tests.fakes.model import (
    Gate,
    InterruptedGenerator,
    InterruptedModel,
    fake_models,
    held_after,
)
from tests.service.conftest import (
    Body,
    assert_problem,
    factory,
    files,
    ids,
    in_background,
    listed,
    picture,
    record,
    search,
    send,
    upload,
    uploaded,
)
from tests.service.processes import REPOSITORY, FakeServer
from tests.threads import run_threads


class Served:
    """A service on a socket, in a thread of this process."""

    def __init__(
        self,
        models: ModelFactory,
        data_dir: Path,
        settings: Body,
        peers: PeerLimits | None = None,
    ) -> None:
        all_settings = Settings(data_dir=data_dir, port=0, **settings)
        self.runtime = Runtime(all_settings, models, decode=shared_decode())
        self._closing = ExitStack()
        listener = self._closing.enter_context(listening(all_settings))
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self.server = server_of(self.runtime, peers)
        self._thread = threading.Thread(target=self.server.run, args=([listener],))
        self._thread.start()
        assert self.runtime.worker.loaded.wait(30)
        self.client = httpx.Client(base_url=self.url, timeout=60)

    def stop(self) -> None:
        self.server.should_exit = True
        self._thread.join(30)
        self.client.close()
        self._closing.close()
        assert not self._thread.is_alive()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    with ExitStack() as stack:

        def serve(models: ModelFactory = fake_models, **settings: Any) -> Served:
            served = Served(models, tmp_path / "data", settings)
            stack.callback(served.stop)
            return served

        yield serve


def request_bytes(method: str, target: str, body: Body | None = None) -> bytes:
    content = b"" if body is None else json.dumps(body).encode()
    head = [
        f"{method} {target} HTTP/1.1",
        "Host: x",
        "Content-Type: application/json",
        f"Content-Length: {len(content)}",
    ]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + content


def count_to(number: int, image: Body) -> Body:
    """A question whose streamed answer counts to `number`."""
    ids = [image["id"]]
    return {"question": "count", "image_ids": ids, "max_tokens": number, "stream": True}


def connection_to(url: str) -> socket.socket:
    parts = urlsplit(url)
    address = (parts.hostname, parts.port)
    return socket.create_connection(address, timeout=30)


def test_no_answer_waits_for_the_clients_acknowledgement(
    serve: Callable[..., Served],
) -> None:
    served = serve()
    served.client.get("/livez").raise_for_status()
    (connection,) = served.server.server_state.connections
    accepted = connection.transport.get_extra_info("socket")
    assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_pieces_arrive_while_the_answer_is_still_being_made(
    serve: Callable[..., Served],
) -> None:
    gate, generator = held_after(2)
    served = serve(factory(generator=generator))
    (image,) = uploaded(served.client, "red")
    question = count_to(4, image)
    with served.client.stream("POST", "/ask", json=question) as response:
        data = (line for line in response.iter_lines() if line.startswith("data:"))
        assert next(data) == 'data: {"text":"1 "}'
        gate.wait_for_arrival()
        gate.opened.set()
        *_, last = data
        assert json.loads(last.removeprefix("data: "))["answer"] == "1 2 3 4"


def test_a_hang_up_in_the_middle_of_a_stream_stops_the_model(
    serve: Callable[..., Served],
) -> None:
    generator = InterruptedGenerator(lambda _: None)
    served = serve(factory(generator=generator), max_answer_tokens=90_000)
    (image,) = uploaded(served.client, "red")
    question = count_to(90_000, image)
    with connection_to(served.url) as connection:
        connection.sendall(request_bytes("POST", "/ask", question))
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")
    assert generator.closed_early.wait(30)
    eventually(lambda: served.runtime.worker.answers.slots_taken == 0)


def test_who_hangs_up_while_waiting_costs_the_model_nothing(
    serve: Callable[..., Served],
) -> None:
    gate, seen = Gate(), []
    warm = threading.Event()

    def note(batch: Sequence[object]) -> None:
        if warm.is_set():
            seen.extend(batch)
            gate.pass_through()

    served = serve(factory(InterruptedModel(note)))
    warm.set()
    texts = served.runtime.worker.texts
    with in_background(
        lambda: served.client.get("/search", params={"q": "held"})
    ) as held:
        gate.wait_for_arrival()
        with connection_to(served.url) as connection:
            connection.sendall(request_bytes("GET", "/search?q=gone"))
            eventually(lambda: texts.slots_taken == 2)
        eventually(lambda: texts.slots_taken == 1)
        gate.opened.set()
    assert held[0].status_code == 200
    response = served.client.get("/search", params={"q": "later"})
    assert response.status_code == 200
    assert seen == ["held", "later"]


def test_many_at_once_are_answered_in_batches(serve: Callable[..., Served]) -> None:
    served = serve(batch_size=8)
    colours = ["red", "green", "blue", "white", "black", "yellow"] * 5
    results: list[httpx.Response] = []

    def upload(number: int) -> None:
        colour = colours[number]
        with httpx.Client(base_url=served.url, timeout=60) as client:
            content = picture(colour, (8, 8 + number))
            results.append(send(client, content))

    run_threads(len(colours), upload)
    assert [response.status_code for response in results] == [201] * len(colours)
    library = served.runtime.services().library
    assert library.stats().images == len(colours)


def test_what_is_in_work_is_finished_before_the_service_goes(
    serve: Callable[..., Served],
) -> None:
    gate = Gate()

    def hold_pairs(batch: Sequence[object]) -> None:
        if len(batch) == 2:
            gate.pass_through()

    served = serve(factory(InterruptedModel(hold_pairs)))
    with in_background(lambda: upload(served.client, "red", "blue")) as results:
        gate.wait_for_arrival()
        served.server.should_exit = True
        gate.opened.set()
    assert results[0].status_code == 201


def test_uploads_together_are_bounded_too(serve: Callable[..., Served]) -> None:
    served = serve(max_upload_bytes=1024)
    head = b"POST /images HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\n"
    part = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'

    def held_bytes() -> float:
        (metric,) = served.runtime.metrics.upload_bytes_held.collect()
        return metric.samples[0].value

    with ExitStack() as slow:
        for _ in range(4):
            connection = slow.enter_context(connection_to(served.url))
            body = part + bytes(1000 - len(part))
            connection.sendall(head + b"Content-Length: 1024\r\n\r\n" + body)
        eventually(lambda: held_bytes() == 4000)
        response = upload(served.client, "red")
        assert_problem(response, 429, "queue-full")
        assert response.headers["retry-after"] == "1"
    eventually(lambda: upload(served.client, "red").status_code == 201)


def test_a_search_text_of_100_000_characters_is_422(
    serve: Callable[..., Served],
) -> None:
    served = serve()
    with connection_to(served.url) as connection:
        connection.sendall(request_bytes("GET", f"/search?q={'a' * 100_000}"))
        response = connection.recv(4096)
    assert response.startswith(b"HTTP/1.1 422")
    assert b"application/problem+json" in response


@pytest.fixture
def fake_server(tmp_path: Path) -> Iterator[FakeServer]:
    server = FakeServer(tmp_path / "data")
    try:
        eventually(server.is_ready)
        yield server
    finally:
        server.kill()


@pytest.mark.skipif(
    not psutil.LINUX, reason="reads the peak memory of a process from /proc"
)
@pytest.mark.parametrize("declared", [True, False], ids=["declared length", "chunked"])
@pytest.mark.parametrize("is_file", [True, False], ids=["file", "field"])
def test_an_upload_of_200_mb_is_413_and_costs_no_memory(
    fake_server: FakeServer, declared: bool, is_file: bool
) -> None:
    name = b'name="file"; filename="big.png"' if is_file else b'name="metadata"'
    head = b"--b\r\nContent-Disposition: form-data; " + name + b"\r\n\r\n"
    blocks = 200

    def body() -> Iterator[bytes]:
        yield head
        for _ in range(blocks):
            yield bytes(MIB)

    headers = {"content-type": "multipart/form-data; boundary=b"}
    if declared:
        headers["content-length"] = str(len(head) + blocks * MIB)
    before_bytes = fake_server.peak_memory_bytes()
    response = httpx.post(
        f"{fake_server.url}/images", content=body(), headers=headers, timeout=60
    )
    if declared or is_file:
        assert_problem(response, 413, "upload-too-large")
    else:
        assert_problem(response, 400)  # the field's own limit comes first
    assert fake_server.peak_memory_bytes() - before_bytes < 40 * MIB
    response = httpx.post(f"{fake_server.url}/images", files=files(picture()))
    assert response.status_code == 201


def test_what_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    acknowledged: dict[str, int] = {}
    enough = threading.Event()
    server = FakeServer(tmp_path / "data")

    def upload_until_the_end(first_px: int) -> None:
        with httpx.Client(base_url=server.url, timeout=60) as client:
            for height_px in range(first_px, first_px + 10_000):
                try:
                    response = send(client, picture("red", (8, height_px)))
                except httpx.TransportError:
                    return  # killed
                (image,) = response.json()["images"]
                acknowledged[image["id"]] = height_px
                if len(acknowledged) >= 40:
                    enough.set()

    starts = (1, 20_000, 40_000)
    threads = [
        threading.Thread(target=upload_until_the_end, args=(start,)) for start in starts
    ]
    try:
        eventually(server.is_ready)
        for thread in threads:
            thread.start()
        assert enough.wait(60)
    finally:
        server.kill()  # SIGKILL, in the middle of uploads
        for thread in threads:
            thread.join(30)
    again = FakeServer(tmp_path / "data")
    try:
        eventually(again.is_ready)
        with httpx.Client(base_url=again.url, timeout=60) as client:
            for image_id, height_px in acknowledged.items():
                assert record(client, image_id)["height_px"] == height_px
            stored = set(ids(listed(client, limit=200)))
            assert stored >= set(acknowledged)
            assert set(ids(search(client, "red", limit=200))) == stored
    finally:
        again.kill()


def test_sigterm_ends_the_process_cleanly(fake_server: FakeServer) -> None:
    response = httpx.post(f"{fake_server.url}/images", files=files(picture()))
    assert response.status_code == 201
    fake_server.process.send_signal(signal.SIGTERM)
    assert fake_server.process.wait(30) in (0, -signal.SIGTERM)


@pytest.mark.parametrize(
    ("model", "reason"),
    [("broken", "the weights are gone"), ("nonsense", "There is no model 'nonsense'")],
)
def test_a_test_s_server_that_ends_too_early_says_why(
    tmp_path: Path, model: str, reason: str
) -> None:
    def wait_until_ready() -> None:
        server = FakeServer(tmp_path, model=model)
        eventually(server.is_ready)

    with pytest.raises(pytest.fail.Exception, match=reason):
        wait_until_ready()


@pytest.mark.parametrize(
    ("model", "reason"),
    [("broken", "the weights are gone"), ("nonsense", "There is no model 'nonsense'")],
)
def test_a_service_that_cannot_start_ends_and_says_why(
    tmp_path: Path, model: str, reason: str
) -> None:
    command = [sys.executable, "-m", "tests.service.fake_server", model, str(tmp_path)]
    done = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert reason in done.stderr.splitlines()[-1]


def test_two_services_do_not_share_a_library(
    fake_server: FakeServer, tmp_path: Path
) -> None:
    command = [
        sys.executable,
        "-m",
        "tests.service.fake_server",
        "fake",
        str(tmp_path / "data"),
    ]
    done = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "the data folder is in use" in done.stderr.splitlines()[-1]
    assert fake_server.is_ready()


def test_an_idle_connection_is_closed_by_the_client_first(
    serve: Callable[..., Served],
) -> None:
    """A server that closes first resets a request that comes at the same moment."""
    kept_by_clients_s = httpx.Limits().keepalive_expiry
    assert kept_by_clients_s is not None
    assert serve().server.config.timeout_keep_alive > 2 * kept_by_clients_s
