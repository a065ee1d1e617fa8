"""Search by text and by picture, through HTTP."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient
from httpx import Response

from service.settings import Settings
from tests.fakes.model import FakeSummaryModel
from tests.service.conftest import (
    Start,
    add,
    assert_problem,
    counting,
    factory,
    files,
    ids,
    listed,
    picture,
    search,
    search_image,
    send,
    stop,
    uploaded,
)


def test_the_best_comes_first(client: TestClient) -> None:
    red, green, blue = add(client, "red", "green", "blue")
    stored = {"red": red, "green": green, "blue": blue}
    for colour, expected in stored.items():
        hits = search(client, f"a {colour} thing")
        assert hits[0]["id"] == expected
        scores = [hit["score"] for hit in hits]
        assert scores == sorted(scores, reverse=True)
        assert scores[0] > 0.9
        assert scores[1] < 0.5
    assert set(hits[0]) == {
        "id", "sha256", "fingerprint", "model", "mode", "tokens", "width_px", "height_px",
        "created_at_ms", "metadata", "score", "probability", "by_text",
    }  # fmt: skip


def test_limit_is_kept(client: TestClient) -> None:
    add(client, "red", "green", "blue")
    assert len(search(client, "red", limit=2)) == 2
    assert len(search(client, "red", limit=200)) == 3


def test_the_best_can_be_left_out_and_the_newest_come_first(
    client: TestClient,
) -> None:
    red, green, blue = add(client, "red", "green", "blue")
    everything = ids(search(client, "a red thing"))
    assert everything[0] == red
    assert ids(search(client, "a red thing", offset=1)) == everything[1:]
    assert ids(search(client, "a red thing", offset=1, limit=1)) == everything[1:2]
    assert search(client, "a red thing", offset=3) == []
    (yellow,) = add(client, "yellow")
    newest = ids(search(client, "a red thing", order="newest"))
    assert newest[0] == yellow
    assert set(newest) == {red, green, blue, yellow}
    pictures = ids(search_image(client, "red", order="newest", offset=1))
    assert pictures[0] == yellow
    assert red not in pictures
    response = client.get("/search", params={"q": "red", "offset": 10_001})
    assert_problem(response, 422, "invalid-input")


def test_similar_images_are_found_without_the_model(start: Start) -> None:
    batches: list[int] = []
    client = start(factory(counting(batches)))
    red, blue = add(client, "red", "blue")
    red_again = ids(uploaded(client, "red", metadata='{"year": 2020}'))
    assert red_again == [red]
    (dark,) = ids(send(client, picture((128, 0, 0))).json()["images"])
    batches.clear()
    hits = client.get(f"/images/{red}/similar").json()["results"]
    assert sorted(ids(hits)) == sorted([dark, blue])
    assert [hit["probability"] for hit in hits] == [None, None]
    scores = [hit["score"] for hit in hits]
    assert scores == sorted(scores, reverse=True)
    best = client.get(f"/images/{red}/similar?limit=1").json()["results"]
    assert best == hits[:1]
    rest = client.get(f"/images/{red}/similar?limit=1&offset=1").json()["results"]
    assert rest == hits[1:]
    none = client.get(f"/images/{red}/similar", params={"tag": "cat"}).json()
    assert none["results"] == []
    assert batches == []
    response = client.get("/images/unknown/similar")
    assert_problem(response, 404, "image-not-found")


def test_an_image_of_another_model_has_nothing_similar(start: Start) -> None:
    client = start()
    (red,) = add(client, "red")
    stop(client)
    other = FakeSummaryModel()
    other.fingerprint = "ab" * 32
    client = start(factory(other))
    response = client.get(f"/images/{red}/similar")
    assert_problem(response, 409, "wrong-fingerprint")


def test_an_empty_library_finds_nothing(client: TestClient) -> None:
    response = client.get("/search", params={"q": "red"})
    assert response.status_code == 200
    assert response.json()["results"] == []
    assert set(response.json()["timings_ms"]) == {"embed", "search", "total"}


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"q": ""},
        {"q": "  "},
        {"q": " ?! \u2026"},
        {"q": "a", "limit": 0},
        {"q": "a", "limit": "inf"},
        {"q": "a" * 5000},
    ],
    ids=["none", "empty", "blank", "marks", "limit 0", "limit inf", "too long"],
)
def test_bad_questions_are_422(client: TestClient, params: dict[str, str]) -> None:
    response = client.get("/search", params=params)
    assert_problem(response, 422, "invalid-input")


def test_spelling_variants_find_the_same(client: TestClient) -> None:
    add(client, "red", "green", "blue")
    plain = search(client, "green grass")
    for variant in ("Green grass.", "GREEN  GRASS!", "green\u00a0grass"):
        assert search(client, variant) == plain


def test_a_picture_finds_its_like(client: TestClient) -> None:
    red, _ = add(client, "red", "blue")
    query = files(picture("red", (99, 55)))
    response = client.post("/search", files=query, params={"limit": 1})
    assert ids(response.json()["results"]) == [red]
    assert len(listed(client)) == 2


def test_a_stored_picture_finds_itself_without_model_work(start: Start) -> None:
    batches: list[int] = []
    client = start(factory(counting(batches)))
    red, _ = add(client, "red", "blue")
    batches.clear()
    best = search_image(client, "red")[0]
    assert best["id"] == red
    assert best["score"] == pytest.approx(1, abs=1e-3)
    assert batches == []


@pytest.mark.parametrize(
    ("content", "status", "kind"),
    [
        (b"", 422, "empty-file"),
        (b"text", 415, "not-an-image"),
    ],
)
def test_a_bad_picture_is_a_problem(
    client: TestClient, content: bytes, status: int, kind: str
) -> None:
    response = client.post("/search", files=files(content))
    assert_problem(response, status, kind)


def test_a_picture_must_come_as_multipart(client: TestClient) -> None:
    response = client.post("/search", json={"file": "x"})
    assert_problem(response, 415, "unsupported-media-type")


def test_a_full_queue_is_429_with_a_time_to_come_back(start: Start) -> None:
    client = start(queue_size=1, max_files=1)
    worker = client.app.state.runtime.worker  # type: ignore[attr-defined]
    with worker.texts.slots(1):
        response = client.get("/search", params={"q": "red"})
        assert_problem(response, 429, "queue-full")
        assert int(response.headers["retry-after"]) >= 1
    response = client.get("/search", params={"q": "red"})
    assert response.status_code == 200


def test_settings_reject_uploads_that_could_never_be_let_in() -> None:
    with pytest.raises(ValueError, match="max_files must not exceed queue_size"):
        Settings(max_files=10, queue_size=9)


def mixed(client: TestClient, *colours: str, **fields: object) -> Response:
    """A search by pictures of these colours, with other fields of the form."""
    parts: list[Any] = files(*map(picture, colours))
    for name, values in fields.items():
        for value in values if isinstance(values, list) else [values]:
            parts.append((name, (None, str(value))))
    return client.post("/search", files=parts, params={"limit": 10})


def scores(response: Response) -> dict[str, float]:
    hits = response.json()["results"]
    return {hit["id"]: hit["score"] for hit in hits}


def test_a_picture_and_words_are_searched_together(client: TestClient) -> None:
    red, green, blue = add(client, "red", "green", "blue")
    both = scores(mixed(client, "red", q="a blue thing"))
    assert both[red] == pytest.approx(both[blue], abs=0.02)
    assert both[green] < both[blue]
    assert list(both)[2] == green
    for weight, best in ((0.2, red), (0.8, blue)):
        found = scores(mixed(client, "red", q="a blue thing", text_weight=weight))
        assert next(iter(found)) == best
    alone = scores(mixed(client, "red"))
    assert scores(mixed(client, "red", q="blue", text_weight=0)) == pytest.approx(alone)


def test_several_pictures_and_stored_images_are_searched_together(
    client: TestClient,
) -> None:
    red, green, blue = add(client, "red", "green", "blue")
    two = scores(mixed(client, "red", "blue"))
    assert two[red] == pytest.approx(two[blue], abs=0.02)
    assert two[green] < two[red]
    named = scores(mixed(client, "red", image_id=[blue, green, green]))
    assert list(named) == [red]
    only_named = scores(mixed(client, image_id=[red], q="a blue thing"))
    assert list(only_named) == [blue, green]


def test_the_order_of_pictures_makes_no_difference(client: TestClient) -> None:
    add(client, "red", "green", "blue")
    one, other = (mixed(client, *pair) for pair in (("red", "pink"), ("pink", "red")))
    assert scores(one) == pytest.approx(scores(other))


def test_queries_of_images_that_make_no_sense(start: Start) -> None:
    client = start(max_files=2)
    (red,) = add(client, "red")
    assert_problem(mixed(client, q="red"), 422, "invalid-input")
    assert_problem(mixed(client, "red", q="..."), 422, "invalid-input")
    assert_problem(mixed(client, "red", text_weight=2), 422, "invalid-input")
    assert_problem(mixed(client, "red", "blue", image_id=red), 422, "invalid-input")
    assert_problem(mixed(client, image_id="unknown"), 404, "image-not-found")
