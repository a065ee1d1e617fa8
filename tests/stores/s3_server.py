"""A real S3 server for tests: moto's, on a port of its own, with buckets in memory."""

from __future__ import annotations

import logging
import secrets
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import httpx
import pytest

_ACCESS_KEY = "precis"
_SECRET_KEY = "secret"
_REGION = "us-east-1"


class S3Server:
    """A server on loopback; it lets everyone in until it is told not to."""

    def __init__(self) -> None:
        self._moto = pytest.importorskip("moto.server", reason="moto is not installed")
        # Else each request is a line of the tests' output.
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        with closing(socket.create_server(("127.0.0.1", 0))) as free:
            self._port: int = free.getsockname()[1]
        self.endpoint = f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Starts the server, on the same port and with the same buckets each time."""
        self._server = self._moto.ThreadedMotoServer(
            ip_address="127.0.0.1", port=self._port, verbose=False
        )
        self._server.start()

    def stop(self) -> None:
        """Stops the server; nobody listens then."""
        self._server.stop()

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which a program finds the server."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": _ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": _SECRET_KEY,
            "AWS_REGION": _REGION,
        }

    def client(self) -> Any:
        """A client that goes behind the store's back."""
        boto3 = pytest.importorskip("boto3")
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=_REGION,
            aws_access_key_id=_ACCESS_KEY,
            aws_secret_access_key=_SECRET_KEY,
        )

    def new_bucket(self) -> str:
        """The name of a new, empty bucket."""
        name = f"precis-{secrets.token_hex(4)}"
        self.client().create_bucket(Bucket=name)
        return name

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """For as long, the server knows no access key."""
        self._let_in("0")
        try:
            yield
        finally:
            self._let_in("inf")

    def _let_in(self, requests: str) -> None:
        url = f"{self.endpoint}/moto-api/reset-auth"
        httpx.post(url, content=requests).raise_for_status()


@contextmanager
def running_s3_server() -> Iterator[S3Server]:
    """A server, gone afterwards."""
    server = S3Server()
    server.start()
    try:
        yield server
    finally:
        server.stop()
