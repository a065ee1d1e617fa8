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

pytestmark = pytest.mark.model

PHOTOS = {"cat": "chelsea.png", "coffee": "coffee.png", "rocket": "rocket.jpg"}
QUERIES = {"cat": "a cat", "coffee": "a cup of coffee", "rocket": "a rocket"}
# Names that are right for what the photograph shows; the cat is a tabby, the coffee an espresso in
# a cup.
NAMES = {
    "cat": {"cat", "tabby"},
    "coffee": {"espresso", "cup", "coffee"},
    "rocket": {"rocket", "missile", "projectile"},
}

KEPT_WORDS = {"cat": "cat", "coffee": "presso", "rocket": "missile"}  # tokens of the language model


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of `precis serve` on a free port with an empty library."""
    with (
        serving(tmp_path_factory.mktemp("first session") / "service") as running,
        httpx.Client(base_url=running.url, timeout=120) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def ids(service: httpx.Client) -> dict[str, str]:
    """Ids of the three photographs, compressed in one request."""
    folder = Path(skimage.__file__).parent / "data"
    files = [("file", (name, (folder / name).read_bytes())) for name in PHOTOS.values()]
    answer = service.post("/images", files=files)
    assert answer.status_code == 201, answer.text
    images = answer.json()["images"]
    assert [image["status"] for image in images] == ["created"] * 3
    assert all(image["tokens"]["count"] == 8 and image["tokens"]["dim"] == 576 for image in images)
    return {thing: image["id"] for thing, image in zip(PHOTOS, images, strict=True)}


@pytest.mark.parametrize("thing", PHOTOS)
def test_text_finds_the_photograph(service: httpx.Client, ids: dict[str, str], thing: str) -> None:
    results = service.get("/search", params={"q": QUERIES[thing]}).json()["results"]
    assert results[0]["id"] == ids[thing]
    assert len(results) == 3


@pytest.mark.parametrize("thing", PHOTOS)
def test_the_thing_is_named_from_stored_tokens(
    service: httpx.Client, ids: dict[str, str], thing: str
) -> None:
    body = {"question": "What is in the image?", "image_ids": [ids[thing]]}
    answer = service.post("/ask", json=body).json()
    assert NAMES[thing] & set(re.findall(r"[a-z]+", answer["answer"].lower())), answer["answer"]
    assert [image["id"] for image in answer["images"]] == [ids[thing]]


@pytest.mark.parametrize("thing", PHOTOS)
def test_what_is_kept_is_small_and_can_be_read(
    service: httpx.Client, ids: dict[str, str], thing: str
) -> None:
    image = service.get(f"/images/{ids[thing]}").json()
    assert image["tokens"]["codec"].startswith("mix16@")
    assert image["tokens"]["bytes"] <= 8 * (3 + 16 * 3)
    heaviest = {token[0]["text"].strip() for token in image["words"]}
    assert KEPT_WORDS[thing] in heaviest, heaviest


def test_a_streamed_answer_is_the_same(service: httpx.Client, ids: dict[str, str]) -> None:
    body = {"question": "What is in the image?", "image_ids": [ids["cat"]]}
    whole = service.post("/ask", json=body).json()["answer"]
    with service.stream("POST", "/ask", json={**body, "stream": True}) as answer:
        events = [
            json.loads(line.removeprefix("data: "))
            for line in answer.iter_lines()
            if line.startswith("data: {")
        ]
    assert "".join(event.get("text", "") for event in events) == whole


def test_a_question_without_ids_searches_first(service: httpx.Client, ids: dict[str, str]) -> None:
    answer = service.post("/ask", json={"question": "Is there a rocket?", "limit": 1}).json()
    assert answer["images"][0]["id"] == ids["rocket"]


def test_the_same_photograph_again_is_known(service: httpx.Client, ids: dict[str, str]) -> None:
    folder = Path(skimage.__file__).parent / "data"
    answer = service.post(
        "/images", files=[("file", ("again.png", (folder / PHOTOS["cat"]).read_bytes()))]
    )
    assert answer.status_code == 200
    assert answer.json()["images"][0]["status"] == "exists"
    assert answer.json()["images"][0]["id"] == ids["cat"]


def test_ready_only_when_warm(service: httpx.Client, ids: dict[str, str]) -> None:
    assert ids
    assert service.get("/readyz").status_code == 200
    assert "precis_" in service.get("/metrics").text
