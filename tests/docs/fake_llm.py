"""A language model behind OpenAI's interface: it repeats the last file name that it has read."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

FILE_NAME = re.compile(r"\S+\.(?:png|jpg)")


@dataclass
class FakeLlm:
    """A running server; `asked` are the messages of every chat completion, in order."""

    url: str = ""
    asked: list[list[dict[str, Any]]] = field(default_factory=list)

    def reply(self, messages: list[dict[str, Any]]) -> str:
        """The text of an answer."""
        self.asked.append(messages)
        texts = [part["text"] for part in parts(messages) if part["type"] == "text"]
        names = FILE_NAME.findall(" ".join(texts))
        return f"It is in {names[-1]}." if names else "I have seen it."


def parts(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The parts of all messages; one of plain text is a single part."""
    found: list[dict[str, Any]] = []
    for message in messages:
        content = message["content"]
        is_text = isinstance(content, str)
        found += [{"type": "text", "text": content}] if is_text else content
    return found


@contextmanager
def fake_llm() -> Iterator[FakeLlm]:
    """A server on a free port; it has stopped after the block."""
    llm = FakeLlm()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.path == "/v1/models"
            model = {"id": "fake", "object": "model", "created": 0, "owned_by": "test"}
            self._send({"object": "list", "data": [model]})

        def do_POST(self) -> None:
            assert self.path == "/v1/chat/completions"
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            message = {"role": "assistant", "content": llm.reply(body["messages"])}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            self._send(
                {
                    "id": "1",
                    "object": "chat.completion",
                    "created": 0,
                    "model": body["model"],
                    "choices": [choice],
                }
            )

        def _send(self, body: dict[str, Any]) -> None:
            content = json.dumps(body).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Writes nothing on the terminal."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        llm.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield llm
        finally:
            server.shutdown()
            thread.join()
