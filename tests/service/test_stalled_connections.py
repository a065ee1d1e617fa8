"""Two hundred peers that stall in every way: others are served, and the stalled are gone."""

from __future__ import annotations

import io
import random
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx
import psutil
import pytest
from PIL import Image

from service.settings import MIB
from tests.eventually import eventually
from tests.service.conftest import picture, send
from tests.service.processes import FakeServer
from tests.service.test_peers import HEAD, PART
from tests.service.test_server import connection_to, request_bytes

COUNT = 200
GONE_S = 30.0
BYTE_S = 1.0  # between two bytes of those that are slow
LARGE = 64 * MIB
# The first 63 MiB of an upload of 64.
LARGE_HEAD = HEAD.replace(b"1024", str(LARGE).encode()) + PART
JSON = request_bytes("POST", "/ask", {"question": "a"})


@contextmanager
def slowly(connections: Sequence[socket.socket]) -> Iterator[None]:
    """Sends a byte on each now and then, for as long as the block lasts."""
    ended = threading.Event()

    def send_bytes() -> None:
        while not ended.wait(BYTE_S):
            for connection in connections:
                with suppress(OSError):  # closed by the service
                    connection.send(b"x")

    thread = threading.Thread(target=send_bytes)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(30)


@contextmanager
def others(url: str) -> Iterator[list[int]]:
    """A client that uploads pictures for as long as the block lasts; the statuses it gets."""
    statuses: list[int] = []
    ended = threading.Event()

    def upload() -> None:
        with httpx.Client(base_url=url, timeout=GONE_S) as client:
            while not ended.is_set():
                data = picture("blue", (1 + len(statuses) % 500, 300))
                statuses.append(send(client, data).status_code)

    thread = threading.Thread(target=upload)
    thread.start()
    try:
        yield statuses
    finally:
        ended.set()
        thread.join(60)


def held_by(pid: int) -> int:
    """How many connections a process holds."""
    connections = psutil.Process(pid).net_connections("tcp")
    return sum(one.status != psutil.CONN_LISTEN for one in connections)


def stalled(
    stack: ExitStack, url: str, image_id: str, count: int
) -> list[socket.socket]:
    """So many connections, each stalled in another way than the one before it."""
    starts = [
        b"",
        b"GET /livez HTTP/1.1\r\nHost",
        HEAD,
        HEAD + PART,
        JSON[:-1],
        request_bytes("GET", f"/images/{image_id}/original"),  # which nobody reads
    ]
    connections = []
    for number in range(count):
        connection = stack.enter_context(connection_to(url))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(starts[number % len(starts)])
        connections.append(connection)
    return connections


def large_picture() -> bytes:
    """A picture of more bytes than a socket's buffers take."""
    noise = random.Random(0).randbytes(3 * 1800 * 1800)
    buffer = io.BytesIO()
    Image.frombytes("RGB", (1800, 1800), noise).save(buffer, "PNG", compress_level=0)
    return buffer.getvalue()


@pytest.mark.long
def test_two_hundred_that_stall_cost_the_others_nothing(tmp_path: Path) -> None:
    server = FakeServer(tmp_path / "data", PRECIS_KEEP="original")
    try:
        eventually(server.is_ready)
        with httpx.Client(base_url=server.url, timeout=60) as client:
            (image,) = send(client, large_picture()).json()["images"]
        with ExitStack() as stack:
            large = [stack.enter_context(connection_to(server.url)) for _ in range(4)]
            for connection in large:
                connection.sendall(LARGE_HEAD + bytes(63 * MIB))
            many = stalled(stack, server.url, image["id"], COUNT - len(large))
            # Half of those in an upload go on, a byte at a time.
            stack.enter_context(slowly(many[2::12] + many[3::12]))
            eventually(lambda: held_by(server.process.pid) > COUNT * 3 / 4)
            statuses = stack.enter_context(others(server.url))
            # But for the one that uploads.
            eventually(lambda: held_by(server.process.pid) <= 1, limit_s=GONE_S)
        assert set(statuses) <= {200, 201}
        assert 201 in statuses
        print(f"uploads meanwhile: {len(statuses)}")
    finally:
        server.kill()
