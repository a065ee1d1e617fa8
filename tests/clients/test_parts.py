"""The client's parts that need no service: event streams, pauses, uploads, public names."""

from __future__ import annotations

import subprocess
import sys
import time
from email.utils import formatdate
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

import precis_client
from precis_client import Precis
from precis_client.errors import PrecisError, ServiceFailed, problem
from precis_client.events import Event, EventReader
from precis_client.image_text import image_text
from precis_client.results import DetailedImage, Tokens, Word
from precis_client.retries import RetryPolicy
from precis_client.uploads import PictureUpload
from tests.test_imports import imported

# What may stand in one line of an event stream.
characters = st.characters(blacklist_characters="\r\n", blacklist_categories=["Cs"])
lines = st.text(characters)


def _events(text: str) -> list[Event]:
    reader = EventReader()
    events = [reader.feed(line) for line in text.split("\n")]
    return [event for event in events if event is not None]


def test_events() -> None:
    assert _events(
        ": comment\nevent: piece\ndata: a\n\ndata:b\ndata:  c\nid: 1\n\n\n"
        "event: nothing\n\ndata: cut"
    ) == [
        Event("piece", "a"),
        Event("message", "b\n c"),
    ]


names = st.from_regex(r"[a-z]+", fullmatch=True)
named_lines = st.tuples(names, st.lists(lines, min_size=1))


@given(st.lists(named_lines))
def test_events_of_any_text(events: list[tuple[str, list[str]]]) -> None:
    text = ""
    expected = []
    for name, data in events:
        text += f"event: {name}\n"
        text += "".join(f"data: {line}\n" for line in data)
        text += "\n"
        expected.append(Event(name, "\n".join(data)))
    assert _events(text) == expected


def _pause_s(
    headers: dict[str, str], status: int = 429, default_s: float | None = 1.5
) -> float | None:
    policy = RetryPolicy(longest_wait_s=20)
    response = httpx.Response(status, headers=headers)
    return policy.pause_s(response, default_s)


def test_pauses() -> None:
    assert _pause_s({}) == 1.5
    assert _pause_s({"Retry-After": "7"}) == 7
    assert _pause_s({"Retry-After": "7"}, status=503) == 7
    assert _pause_s({"Retry-After": "21"}) is None
    assert _pause_s({"Retry-After": "soon"}) == 1.5
    past = formatdate(0, usegmt=True)
    assert _pause_s({"Retry-After": past}) == 0
    in_two_hours = formatdate(time.time() + 7200, usegmt=True)
    assert _pause_s({"Retry-After": in_two_hours}) is None
    assert _pause_s({"Retry-After": "7"}, status=504) == 7
    assert _pause_s({"Retry-After": "7"}, status=500) is None
    assert _pause_s({"Retry-After": "7"}, default_s=None) is None


def test_pauses_grow_up_to_a_limit() -> None:
    policy = RetryPolicy(attempts=6, first_wait_s=1, longest_wait_s=5)
    assert list(policy.waits_s()) == [1, 2, 4, 5, 5]
    patient = RetryPolicy(attempts=5000)
    assert max(patient.waits_s()) == patient.longest_wait_s


def test_uploads_know_their_type(tmp_path: Path) -> None:
    (tmp_path / "a.JPG").write_bytes(b"1")
    (tmp_path / "b").write_bytes(b"")
    assert PictureUpload.read(tmp_path / "a.JPG").media_type == "image/jpeg"
    assert PictureUpload.read(tmp_path / "b").media_type == "application/octet-stream"
    assert PictureUpload.read(tmp_path / "b").id == "e3b0c44298fc1c149afbf4c8996fb924"


@pytest.mark.parametrize(
    "status", [400, 401, 403, 404, 405, 409, 413, 415, 422, 429, 500, 503, 504, 507]
)
def test_every_status_has_an_error(status: int) -> None:
    error = problem(status, {"title": "No", "detail": "because", "more": 1})
    assert isinstance(error, PrecisError)
    assert isinstance(error, ServiceFailed) == (status >= 500 and status != 503)
    assert str(error) == "No: because"
    assert error.members["more"] == 1


def test_public_names() -> None:
    assert precis_client.__all__ == sorted(precis_client.__all__)
    assert set(precis_client.__all__) == {
        "AnswerStream",
        "AsyncAnswerStream",
        "AsyncPrecis",
        "PictureUpload",
        "Precis",
        "PrecisError",
        "RetryPolicy",
        "Turn",
    }
    for name in precis_client.__all__:
        assert getattr(precis_client, name).__name__ == name
        assert name in dir(precis_client)
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = precis_client.no_such_name


def test_the_command_imports_no_http_client() -> None:
    """Which takes a while, and `precis serve` has no use for it."""
    code = "import sys, precis_client.cli; print('httpx' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"


def test_imports_nothing_of_ours() -> None:
    allowed = {
        "precis_client",
        "click",
        "httpx",
        "platformdirs",
        "mcp",  # an extra, imported by `precis mcp` alone
        "pydantic",
        "rich",
        "textual_image",  # an extra, imported by `precis search --thumbnails` alone
        *sys.stdlib_module_names,
    }
    for path in Path(precis_client.__file__).parent.rglob("*.py"):
        packages = {name.partition(".")[0] for name in imported(path)}
        assert packages <= allowed, path


def detailed(metadata: dict[str, Any], words: list[list[Word]] | None) -> DetailedImage:
    return DetailedImage(
        id="0a",
        sha256="0a0b",
        fingerprint="f1",
        tokens=Tokens(3, 4, "mix2", 12),
        width_px=4,
        height_px=3,
        created_at_ms=0,
        metadata=metadata,
        words=words,
    )


def test_an_image_as_text() -> None:
    words = [
        [Word(" dog", 0.9), Word(" cat", 0.1)],
        [Word("\n", 1.0)],
        [Word(".", 0.9), Word(" cat", 0.1)],
        [],
        [Word(" beach", 0.5)],
        [Word("dog", 0.4)],
    ]
    metadata = {"filename": "a.jpg", "text": {"lines": ["STOP", "Main St"]}}
    assert image_text(detailed(metadata, words)).splitlines() == [
        "File: a.jpg",
        "Words: dog, beach",
        "Text in the picture: STOP / Main St",
    ]
    # The keys are the caller's where the service did not write them.
    for other in ({}, {"filename": 7, "text": "STOP"}, {"text": {"lines": []}}):
        assert image_text(detailed(other, None)) == "Image 0a"


def test_the_address_of_a_thumbnail() -> None:
    with Precis("https://a.example/b/", collection="pets") as precis:
        assert precis.thumbnail_url("0a/1") == (
            "https://a.example/b/images/0a%2F1/thumbnail?collection=pets"
        )
