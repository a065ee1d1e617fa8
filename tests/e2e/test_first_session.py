"""A newcomer's first session: the real service as a process of its own, the real default model,
real photographs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import skimage

from bench.serving import serving
from tests.service.conftest import ask, ids, record, search, send, statuses

pytestmark = pytest.mark.model

Stored = dict[str, str]  # the id of each thing's photograph

PHOTOS = {"cat": "chelsea.png", "coffee": "coffee.png", "rocket": "rocket.jpg"}
QUERIES = {"cat": "a cat", "coffee": "a cup of coffee", "rocket": "a rocket"}
# Names that are right for what the photograph shows; the cat is a tabby, the coffee an espresso in
# a cup.
NAMES = {
    "cat": {"cat", "tabby"},
    "coffee": {"espresso", "cup", "coffee"},
    "rocket": {"rocket", "missile", "projectile"},
}

# Tokens of the language model; the codec writes a word that its dictionary lacks as one near to it.
KEPT_WORDS = {
    "cat": {"cat"},
    "coffee": {"presso", "coffee", "cup"},
    "rocket": {"missile", "rocket"},
}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of `precis serve` on a free port with an empty library."""
    with (
        serving(tmp_path_factory.mktemp("first session") / "service") as running,
        httpx.Client(base_url=running.url, timeout=120) as client,
    ):
        yield client


FOLDER = Path(skimage.__file__).parent / "data"


def content(thing: str) -> bytes:
    return (FOLDER / PHOTOS[thing]).read_bytes()


@pytest.fixture(scope="module")
def stored(service: httpx.Client) -> dict[str, str]:
    """Ids of the three photographs, compressed in one request."""
    response = send(service, *map(content, PHOTOS))
    assert response.status_code == 201, response.text
    images = response.json()["images"]
    assert statuses(images) == ["created"] * 3
    for image in images:
        assert image["tokens"]["count"] == 8
        assert image["tokens"]["dim"] == 576
    return dict(zip(PHOTOS, ids(images), strict=True))


@pytest.mark.parametrize("thing", PHOTOS)
def test_text_finds_the_photograph(
    service: httpx.Client, stored: Stored, thing: str
) -> None:
    hits = search(service, QUERIES[thing])
    assert hits[0]["id"] == stored[thing]
    assert len(hits) == 3


@pytest.mark.parametrize("thing", PHOTOS)
def test_the_thing_is_named_from_stored_tokens(
    service: httpx.Client, stored: Stored, thing: str
) -> None:
    body = ask(service, "What is in the image?", image_ids=[stored[thing]])
    words = re.findall(r"[a-z]+", body["answer"].lower())
    assert NAMES[thing].intersection(words), body["answer"]
    assert ids(body["images"]) == [stored[thing]]


@pytest.mark.parametrize("thing", PHOTOS)
def test_what_is_kept_is_small_and_can_be_read(
    service: httpx.Client, stored: Stored, thing: str
) -> None:
    image = record(service, stored[thing])
    assert image["tokens"]["codec"].startswith("mix16@")
    assert image["tokens"]["bytes"] <= 8 * (3 + 16 * 3)
    first_words = [token[0] for token in image["words"]]
    heaviest = {word["text"].strip().lower() for word in first_words}
    assert KEPT_WORDS[thing] & heaviest, heaviest


def test_a_streamed_answer_is_the_same(service: httpx.Client, stored: Stored) -> None:
    body = {"question": "What is in the image?", "image_ids": [stored["cat"]]}
    whole = service.post("/ask", json=body).json()
    pieces: list[str] = []
    with service.stream("POST", "/ask", json={**body, "stream": True}) as response:
        for line in response.iter_lines():
            if line.startswith("data: {"):
                event = json.loads(line.removeprefix("data: "))
                pieces.append(event.get("text", ""))
    assert "".join(pieces) == whole["answer"]


def test_a_question_without_ids_searches_first(
    service: httpx.Client, stored: Stored
) -> None:
    body = ask(service, "Is there a rocket?", limit=1)
    assert ids(body["images"]) == [stored["rocket"]]


def test_the_same_photograph_again_is_known(
    service: httpx.Client, stored: Stored
) -> None:
    response = send(service, content("cat"))
    assert response.status_code == 200
    (image,) = response.json()["images"]
    assert image["status"] == "exists"
    assert image["id"] == stored["cat"]


def test_ready_only_when_warm(service: httpx.Client, stored: Stored) -> None:
    assert stored
    assert service.get("/readyz").status_code == 200
    assert "precis_" in service.get("/metrics").text
