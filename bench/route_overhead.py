"""What the service itself adds to a request, over a bare FastAPI route that answers with the same
body.

The real command with the default model, and beside it a FastAPI app that has nothing but a route
for each request, which returns the recorded answer; both over HTTP, in turn, one request at a time.
Routes whose answers tell the time of their stages (`timings_ms`: the model, the decoding, the
search) are counted without it; all the others with what they read from the library. Physical limit:
0, the bare route's own time.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import httpx

from bench.bare_fastapi import Recorded, write_recorded
from bench.measure import Figure, in_turn, report, seconds
from bench.photographs import jpegs
from bench.serving import Command, precis_serve, serving

MOST_MS = 1.5
PHOTOGRAPHS = 50  # in the library; a page of the list


@dataclass(frozen=True)
class Call:
    """A request."""

    name: str
    method: str
    path: str
    options: dict[str, Any] = field(default_factory=dict)  # as httpx takes them

    def send(self, client: httpx.Client) -> httpx.Response:
        """Sends it. Raises httpx.HTTPStatusError."""
        response = client.request(self.method, self.path, **self.options)
        return response.raise_for_status()


def run(
    *,
    rounds: int = 200,
    photographs: int = PHOTOGRAPHS,
    command: Command = precis_serve,
) -> None:
    """Sends each request `rounds` times to both, and reports."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        service = stack.enter_context(serving(folder / "service", command))
        ours = stack.enter_context(httpx.Client(base_url=service.url, timeout=120))
        calls = list(calls_to(ours, list(jpegs(photographs))))
        recorded = folder / "recorded.json"
        write_recorded(recorded, [record(call, ours) for call in calls])
        bare = stack.enter_context(serving(folder / "bare", bare_command(recorded)))
        theirs = stack.enter_context(httpx.Client(base_url=bare.url, timeout=120))
        figures = []
        for call in calls:
            taken = in_turn(
                {
                    "ours": partial(own_seconds, call, ours),
                    "bare": partial(seconds, partial(call.send, theirs)),
                },
                rounds,
            )
            added = [a - b for a, b in zip(taken["ours"], taken["bare"], strict=True)]
            figures.append(
                Figure(
                    f"{call.name}_ms", max(0.0, 1e3 * median(added)), at_most=MOST_MS
                )
            )
            figures.append(Figure(f"{call.name}_bare_ms", 1e3 * median(taken["bare"])))
    report("route_overhead", figures)


def calls_to(client: httpx.Client, pictures: Sequence[bytes]) -> Iterator[Call]:
    """A request to each kind of route, to a library with these pictures."""
    ids: list[str] = []
    for data in pictures:
        response = client.post("/images", files={"file": ("a.jpg", data)})
        ids += [image["id"] for image in response.raise_for_status().json()["images"]]
    image = f"/images/{ids[0]}"
    again = {"files": {"file": ("a.jpg", pictures[0])}}
    question = {
        "question": "What is in the image?",
        "image_ids": ids[:1],
        "max_tokens": 1,
    }
    yield Call("alive", "GET", "/livez")
    yield Call("list", "GET", "/images")
    yield Call("record", "GET", image)
    yield Call("thumbnail", "GET", f"{image}/thumbnail")
    yield Call("tokens", "GET", f"{image}/tokens")
    yield Call("similar", "GET", f"{image}/similar")
    yield Call("set_metadata", "PUT", f"{image}/metadata", {"json": {"year": 2020}})
    yield Call("collections", "GET", "/collections")
    yield Call("jobs", "GET", "/jobs")
    yield Call("models", "GET", "/v1/models")
    yield Call("search", "GET", "/search", {"params": {"q": "a dog"}})
    yield Call("known_upload", "POST", "/images", again)
    yield Call("ask", "POST", "/ask", {"json": question})


def record(call: Call, client: httpx.Client) -> Recorded:
    """The answer of the service to a request."""
    response = call.send(client)
    media_type = response.headers["content-type"].partition(";")[0]
    return Recorded.of(
        call.method, call.path, response.status_code, media_type, response.content
    )


def own_seconds(call: Call, client: httpx.Client) -> float:
    """How long the service takes, without the stages that its answer tells of."""
    answers: list[httpx.Response] = []
    taken = seconds(lambda: answers.append(call.send(client)))
    (answer,) = answers
    if answer.headers["content-type"] != "application/json":
        return taken
    body = json.loads(answer.content)
    return taken - body.get("timings_ms", {}).get("total", 0.0) / 1e3


def bare_command(recorded: Path) -> Command:
    """The command that serves the recorded answers."""

    def command(_: Path) -> Sequence[str]:
        return [sys.executable, "-m", "bench.bare_fastapi", str(recorded)]

    return command


if __name__ == "__main__":
    run()
