"""Stands before an S3 server, and fails requests as networks and object stores do."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from tests.fakes.model import Gate
from tests.stores.s3_server import S3Server

_OF_ONE_HOP = frozenset({"connection", "keep-alive", "transfer-encoding"})


@dataclass(frozen=True)
class Request:
    """A whole request."""

    method: str
    path: str  # with the query
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def writes_data(self) -> bool:
        """Whether it writes a file with lines of a dataset, which no version names yet."""
        return self.method == "PUT" and "/data/" in self.path

    @property
    def commits(self) -> bool:
        """Whether it writes the manifest by which a commit of Lance becomes visible."""
        return self.method == "PUT" and "/_versions/" in self.path


@dataclass(frozen=True)
class Answer:
    """A whole answer."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


Forward = Callable[[Request], Answer]
# None: the connection is closed without an answer.
Fault = Callable[[Request, Forward], Answer | None]


def healthy(request: Request, forward: Forward) -> Answer:
    """The server's own answer."""
    return forward(request)


def refused(request: Request, forward: Forward) -> None:
    """Nothing reaches the server."""


def answer_lost(request: Request, forward: Forward) -> None:
    """The server does what it is asked to, and nobody learns of it."""
    forward(request)


def answering(status: int, code: str, message: str) -> Fault:
    """An error in the words of S3; nothing reaches the server's buckets."""
    body = (
        f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>{message}</Message>'
        "<RequestId>1</RequestId></Error>"
    ).encode()
    answer = Answer(status, [("Content-Type", "application/xml")], body)
    return lambda request, forward: answer


def held(gate: Gate, forwarded: threading.Event) -> Fault:
    """Requests reach the server once the gate is opened, whoever still waits for the answer."""

    def hold(request: Request, forward: Forward) -> Answer:
        gate.pass_through()
        answer = forward(request)
        forwarded.set()
        return answer

    return hold


def of_commits(fault: Fault) -> Fault:
    """The fault for requests that commit alone."""
    return lambda request, forward: (
        fault(request, forward) if request.commits else forward(request)
    )


def since(begins: Callable[[Request], bool], fault: Fault) -> Fault:
    """The fault from the first request on of which `begins` is true."""
    begun = threading.Event()

    def watch(request: Request, forward: Forward) -> Answer | None:
        if begins(request):
            begun.set()
        return fault(request, forward) if begun.is_set() else forward(request)

    return watch


class FaultyS3:
    """Forwards requests to a server; `fault` says what becomes of them instead."""

    def __init__(self, server: S3Server) -> None:
        self.fault: Fault = healthy
        self._server = server
        self._proxy = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._proxy.serve_forever, args=(0.05,))
        self._thread.start()

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which a program finds the server, through here."""
        port = self._proxy.server_address[1]
        endpoint = f"http://127.0.0.1:{port}"
        return {**self._server.environment, "AWS_ENDPOINT_URL": endpoint}

    @contextmanager
    def failing(self, fault: Fault) -> Iterator[None]:
        """For as long, requests meet this fault."""
        self.fault = fault
        try:
            yield
        finally:
            self.fault = healthy

    def close(self) -> None:
        """Ends it."""
        self._proxy.shutdown()
        self._thread.join()
        self._proxy.server_close()

    def _forward(self, request: Request) -> Answer:
        host = urlsplit(self._server.endpoint).netloc
        with closing(HTTPConnection(host)) as connection:
            connection.putrequest(
                request.method,
                request.path,
                skip_host=True,
                skip_accept_encoding=True,
            )
            for name, value in request.headers:
                if name.lower() not in _OF_ONE_HOP:
                    connection.putheader(name, value)
            connection.endheaders(request.body or None)
            response = connection.getresponse()
            headers = [
                (name, value)
                for name, value in response.getheaders()
                if name.lower() not in _OF_ONE_HOP
            ]
            return Answer(response.status, headers, response.read())

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                body = self.rfile.read(length)
                request = Request(self.command, self.path, self.headers.items(), body)
                try:
                    answer = proxy.fault(request, proxy._forward)
                except OSError:
                    # The server itself is away.
                    answer = None
                if answer is None:
                    self.close_connection = True
                    return
                self.send_response_only(answer.status)
                names = set()
                for name, value in answer.headers:
                    self.send_header(name, value)
                    names.add(name.lower())
                if "content-length" not in names:
                    self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any  # noqa: N815

            def handle(self) -> None:
                try:
                    super().handle()
                except ConnectionError:
                    # Whoever asked has given up.
                    return

            def log_message(self, format: str, *args: object) -> None:
                """Says nothing."""

        return Handler
