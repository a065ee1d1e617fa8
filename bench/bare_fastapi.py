"""A bare FastAPI app with a route for each recorded answer, which it returns.

`python -m bench.bare_fastapi RECORDED.json` serves it: what `route_overhead` compares with.
"""

from __future__ import annotations

import base64
import json
import socket
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Response


@dataclass(frozen=True)
class Recorded:
    """An answer of the service."""

    method: str
    path: str  # without the query
    status: int
    media_type: str
    body_base64: str

    @classmethod
    def of(
        cls, method: str, path: str, status: int, media_type: str, body: bytes
    ) -> Recorded:
        """From an answer."""
        text = base64.b64encode(body).decode()
        return cls(method, path, status, media_type, text)

    @property
    def body(self) -> bytes:
        """The bytes of the answer."""
        return base64.b64decode(self.body_base64)


def write_recorded(file: Path, answers: list[Recorded]) -> None:
    """Writes what `python -m bench.bare_fastapi` reads."""
    file.write_text(json.dumps([asdict(answer) for answer in answers]))


def bare_app(answers: list[Recorded]) -> FastAPI:
    """The app; FastAPI itself makes the JSON of each answer that is JSON."""
    app = FastAPI()
    for answer in answers:
        app.add_api_route(
            answer.path,
            _endpoint(answer),
            methods=[answer.method],
            status_code=answer.status,
        )
    app.add_api_route("/readyz", lambda: {"status": "ready"})
    return app


def _endpoint(answer: Recorded) -> Callable[[], Any]:
    if answer.media_type == "application/json":
        value = json.loads(answer.body)
        return lambda: value
    body = answer.body
    return lambda: Response(body, media_type=answer.media_type)


def main(file: Path) -> None:
    """Serves the recorded answers on a free port, which it tells on stderr."""
    answers = [Recorded(**answer) for answer in json.loads(file.read_text())]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        # As the service does: without it either side may wait 40 ms for an acknowledgement.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
        print(
            f"running on http://127.0.0.1:{listener.getsockname()[1]}", file=sys.stderr
        )
        config = uvicorn.Config(bare_app(answers), log_level="error", http="h11")
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
