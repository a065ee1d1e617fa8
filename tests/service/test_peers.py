"""Peers that stall: before a request, in its body, and while they should read the answer."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from service.models import ModelFactory
from service.peers import Patience, PeerLimits
from tests.eventually import eventually
from tests.fakes.model import InterruptedGenerator, fake_models
from tests.service.conftest import factory, upload, uploaded
from tests.service.test_server import (
    Served,
    connection_to,
    count_to,
    request_bytes,
)

HEAD = (
    b"POST /images HTTP/1.1\r\nHost: x\r\n"
    b"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 1024\r\n\r\n"
)
PART = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
NEVER_S = 3600.0


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    with ExitStack() as stack:

        def serve(
            peers: PeerLimits, models: ModelFactory = fake_models, **settings: Any
        ) -> Served:
            served = Served(models, tmp_path / "data", settings, peers)
            stack.callback(served.stop)
            return served

        yield serve


def limits(**changed: float) -> PeerLimits:
    """No limit but these."""
    patient = {
        "head_s": NEVER_S,
        "stall_s": NEVER_S,
        "yield_s": NEVER_S,
        "unread_s": NEVER_S,
    }
    return PeerLimits(**(patient | changed))


def received_until_closed(connection: socket.socket) -> bytes:
    """All that comes until the server closes the connection."""
    received = b""
    try:
        while block := connection.recv(65536):
            received += block
    except ConnectionResetError:
        pass
    return received


def test_uploads_that_stall_make_room_for_one_that_moves(
    serve: Callable[..., Served],
) -> None:
    served = serve(limits(yield_s=0.0), max_upload_bytes=1024)

    def held_bytes() -> float:
        (metric,) = served.runtime.metrics.upload_bytes_held.collect()
        return metric.samples[0].value

    with ExitStack() as stack:
        stalled = [stack.enter_context(connection_to(served.url)) for _ in range(4)]
        for connection in stalled:
            connection.sendall(HEAD + PART + bytes(1000 - len(PART)))
        eventually(lambda: held_bytes() == 4000)
        assert upload(served.client, "red").status_code == 201
        # The one that has waited longest gave way, and was told.
        answers = [received_until_closed(stalled[0])]
        assert answers[0].startswith(b"HTTP/1.1 408")
        assert b"urn:precis:problem:request-stalled" in answers[0]


@pytest.mark.parametrize(
    "start",
    [HEAD, HEAD + PART, request_bytes("POST", "/ask", {"question": "a"})[:-1]],
    ids=["no body", "a part", "json"],
)
def test_a_body_that_stalls_is_408_and_closed(
    serve: Callable[..., Served], start: bytes
) -> None:
    served = serve(limits(stall_s=0.05))
    with connection_to(served.url) as connection:
        connection.sendall(start)
        answer = received_until_closed(connection)
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"application/problem+json" in answer


@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"GET /livez HTTP/1.1\r\nHost",
        # A whole request, and the head of the next one cut short.
        request_bytes("GET", "/livez") + b"GET /livez HT",
        # Refused by its head; the body that was promised never comes.
        b"POST /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n",
    ],
    ids=["nothing", "half a head", "half a second head", "a body nobody reads"],
)
def test_a_connection_that_stalls_outside_a_body_is_closed(
    serve: Callable[..., Served], start: bytes
) -> None:
    served = serve(limits(head_s=0.05))
    with connection_to(served.url) as connection:
        connection.sendall(start)
        received_until_closed(connection)
    assert served.client.get("/livez").status_code == 200


def test_a_peer_that_reads_nothing_is_cut_off_and_its_answer_stopped(
    serve: Callable[..., Served],
) -> None:
    generator = InterruptedGenerator(lambda _: None)
    models = factory(generator=generator)
    served = serve(limits(unread_s=0.05), models, max_answer_tokens=90_000)
    (image,) = uploaded(served.client, "red")
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(connection_address(served))
        question = count_to(90_000, image)
        connection.sendall(request_bytes("POST", "/ask", question))
        assert generator.closed_early.wait(30)


def connection_address(served: Served) -> tuple[str, int]:
    host, port = served.url.removeprefix("http://").split(":")
    return host, int(port)


def test_patience_is_for_a_silence_and_for_a_rate() -> None:
    patience = Patience(PeerLimits(stall_s=10, bytes_per_s=100))
    assert patience.left_s == 10
    patience.note(waited_s=4, size_bytes=0)
    assert patience.left_s == 6
    patience.note(waited_s=0, size_bytes=1_000_000)
    # However much came at once: the next silence may last as long as the first, and no longer.
    assert patience.left_s == 10
    for _ in range(5):
        patience.note(waited_s=2, size_bytes=1)
    assert patience.left_s < 0.1
