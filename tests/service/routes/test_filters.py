"""Metadata that change, and filters over them in lists, searches and questions."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.service.conftest import add, assert_problem, files, picture

ALBUM = {
    "red": {"tags": ["warm", "summer"], "year": 2020, "gps": {"lat": 1.5}},
    "yellow": {"tags": ["warm"], "year": 2023, "camera": "A"},
    "blue": {"tags": ["cold"], "year": 2023, "camera": "B", "private": True},
}


@pytest.fixture
def album(client: TestClient) -> dict[str, str]:
    """The id of each colour."""
    response = client.post(
        "/images",
        files=files(*(picture(colour) for colour in ALBUM)),
        data={"metadata": json.dumps(list(ALBUM.values()))},
    )
    return {
        colour: image["id"] for colour, image in zip(ALBUM, response.json()["images"], strict=True)
    }


FILTERS: list[tuple[dict[str, Any], set[str]]] = [
    ({"tag": "warm"}, {"red", "yellow"}),
    ({"tag": ["warm", "summer"]}, {"red"}),
    ({"tag": "hot"}, set()),
    ({"where": '{"year": 2023}'}, {"yellow", "blue"}),
    ({"where": '{"year": {"gte": 2020, "lt": 2023}}'}, {"red"}),
    ({"where": '{"camera": {"in": ["A", "C"]}}'}, {"yellow"}),
    ({"where": '{"gps.lat": {"gt": 1}}'}, {"red"}),
    ({"where": '{"private": true}'}, {"blue"}),
    ({"where": '{"year": 2023}', "tag": "warm"}, {"yellow"}),
    ({"where": "{}"}, {"red", "yellow", "blue"}),
    ({}, {"red", "yellow", "blue"}),
]


@pytest.mark.parametrize(("asked", "expected"), FILTERS)
def test_lists_and_searches_keep_to_the_filter(
    client: TestClient, album: dict[str, str], asked: dict[str, Any], expected: set[str]
) -> None:
    ids = {album[colour] for colour in expected}
    assert {image["id"] for image in client.get("/images", params=asked).json()["images"]} == ids
    by_text = client.get("/search", params={"q": "red", **asked}).json()["results"]
    assert {hit["id"] for hit in by_text} == ids
    by_image = client.post("/search", files=files(picture("green")), params=asked).json()["results"]
    assert {hit["id"] for hit in by_image} == ids


def test_a_filtered_list_is_read_page_by_page(client: TestClient, album: dict[str, str]) -> None:
    first = client.get("/images", params={"where": '{"year": 2023}', "limit": 1}).json()
    second = client.get(
        "/images", params={"where": '{"year": 2023}', "limit": 1, "cursor": first["next_cursor"]}
    ).json()
    assert [image["id"] for page in (first, second) for image in page["images"]] == [
        album["yellow"],
        album["blue"],
    ]
    assert second["next_cursor"] is None


def test_a_question_searches_only_where_the_filter_holds(
    client: TestClient, album: dict[str, str]
) -> None:
    assert (
        client.post("/ask", json={"question": "red", "tags": ["cold"]}).json()["answer"]
        == "I see blue."
    )
    body = client.post("/ask", json={"question": "red", "where": {"camera": "A"}}).json()
    assert body["images"][0]["id"] == album["yellow"]
    assert_problem(client.post("/ask", json={"question": "red", "tags": ["hot"]}), 404, "no-images")


@pytest.mark.parametrize(
    ("where", "kind"),
    [
        ("{", "invalid-input"),
        ("[]", "bad-filter"),
        ("3", "bad-filter"),
        ("null", "bad-filter"),
        ('{"a": null}', "bad-filter"),
        ('{"a": NaN}', "bad-filter"),
        ('{"a": [1]}', "bad-filter"),
        ('{"a": {}}', "bad-filter"),
        ('{"a": {"like": "x"}}', "bad-filter"),
        ('{"a": {"in": 3}}', "bad-filter"),
        ('{"a": "\\ud800"}', "bad-filter"),
        ("[" * 4000, "invalid-input"),
        ("x" * 5000, "invalid-input"),
    ],
)
def test_a_filter_that_is_none_is_422(client: TestClient, where: str, kind: str) -> None:
    assert_problem(client.get("/images", params={"where": where}), 422, kind)
    assert_problem(client.get("/search", params={"q": "red", "where": where}), 422, kind)


def test_a_bad_filter_of_a_question_is_422(client: TestClient) -> None:
    assert_problem(
        client.post("/ask", json={"question": "a", "where": {"a": {"like": "x"}}}),
        422,
        "bad-filter",
    )
    assert_problem(client.post("/ask", json={"question": "a", "where": []}), 422, "invalid-input")


def test_metadata_are_replaced_and_filters_follow(
    client: TestClient, album: dict[str, str]
) -> None:
    before = client.get(f"/images/{album['red']}").json()
    response = client.put(f"/images/{album['red']}/metadata", json={"tags": ["cold"]})
    assert response.status_code == 200
    assert response.json() == {**before, "metadata": {"tags": ["cold"]}}
    assert client.get(f"/images/{album['red']}").json() == response.json()
    cold = client.get("/search", params={"q": "red", "tag": "cold"}).json()["results"]
    assert {hit["id"] for hit in cold} == {album["red"], album["blue"]}


@pytest.mark.parametrize(
    "content", ["[]", "3", "null", "{", '{"a": NaN}', '{"a": 1e999}', '{"a": "\\ud800"}']
)
def test_metadata_that_cannot_be_stored_change_nothing(client: TestClient, content: str) -> None:
    (red,) = add(client, "red")
    response = client.put(
        f"/images/{red}/metadata", content=content, headers={"content-type": "application/json"}
    )
    assert_problem(response, 422, "invalid-input")
    assert client.get(f"/images/{red}").json()["metadata"] == {}


def test_metadata_of_an_unknown_image_are_404(client: TestClient) -> None:
    assert_problem(client.put("/images/nope/metadata", json={}), 404, "image-not-found")
