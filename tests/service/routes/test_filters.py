"""Metadata that change, and filters over them in lists, searches and questions."""

from __future__ import annotations

import json

import pytest
from fastapi.testclient import TestClient

from tests.service.conftest import (
    Body,
    add,
    ask,
    asked,
    assert_problem,
    ids,
    listed,
    record,
    search,
    search_image,
    upload,
    uploaded,
)

ALBUM = {
    "red": {"tags": ["warm", "summer"], "year": 2020, "gps": {"lat": 1.5}},
    "yellow": {"tags": ["warm"], "year": 2023, "camera": "A"},
    "blue": {"tags": ["cold"], "year": 2023, "camera": "B", "private": True},
}


@pytest.fixture
def album(client: TestClient) -> dict[str, str]:
    """The id of each colour."""
    metadata = json.dumps(list(ALBUM.values()))
    images = uploaded(client, *ALBUM, metadata=metadata)
    return dict(zip(ALBUM, ids(images), strict=True))


FILTERS: list[tuple[Body, set[str]]] = [
    ({"tag": "warm"}, {"red", "yellow"}),
    ({"tag": ["warm", "summer"]}, {"red"}),
    ({"tag": "hot"}, set()),
    ({"where": '{"year": 2023}'}, {"yellow", "blue"}),
    ({"where": '{"year": {"gte": 2020, "lt": 2023}}'}, {"red"}),
    ({"where": '{"camera": {"in": ["A", "C"]}}'}, {"yellow"}),
    ({"where": '{"gps.lat": {"gt": 1}}'}, {"red"}),
    ({"where": '{"private": true}'}, {"blue"}),
    ({"where": '{"year": 2023}', "tag": "warm"}, {"yellow"}),
    ({"where": '{"year": {"ne": 2020}}'}, {"yellow", "blue"}),
    ({"where": '{"camera": {"not in": ["A", "C"]}}'}, {"red", "blue"}),
    ({"where": '{"gps": {"exists": true}}'}, {"red"}),
    ({"where": '{"camera": {"exists": false}}'}, {"red"}),
    ({"where": '{"or": [{"year": 2020}, {"camera": "B"}]}'}, {"red", "blue"}),
    (
        {"where": '{"or": [{"year": 2020}, {"camera": {"ne": "A"}}]}', "tag": "warm"},
        {"red"},
    ),
    ({"where": "{}"}, {"red", "yellow", "blue"}),
    ({}, {"red", "yellow", "blue"}),
]


@pytest.mark.parametrize(("filters", "expected"), FILTERS)
def test_lists_and_searches_keep_to_the_filter(
    client: TestClient, album: dict[str, str], filters: Body, expected: set[str]
) -> None:
    matching = {album[colour] for colour in expected}
    assert set(ids(listed(client, **filters))) == matching
    assert set(ids(search(client, "red", **filters))) == matching
    assert set(ids(search_image(client, "green", **filters))) == matching


def test_two_names_that_are_one_text_are_refused(client: TestClient) -> None:
    """One of their values would be lost."""
    metadata = json.dumps({"caf\u00e9": 1, "cafe\u0301": 2})
    assert_problem(upload(client, "red", metadata=metadata), 422, "invalid-input")


@pytest.mark.parametrize("stored", ["cafe\u0301", "caf\u00e9"])
@pytest.mark.parametrize("asked_for", ["cafe\u0301", "caf\u00e9"])
def test_a_decomposed_text_is_the_composed_one(
    client: TestClient, stored: str, asked_for: str
) -> None:
    metadata = {"tags": [stored, "Plain"], stored: {"in": 1}}
    (red,) = ids(uploaded(client, "red", metadata=json.dumps(metadata)))
    add(client, "blue")
    filters: list[Body] = [
        {"tag": asked_for},
        {"where": json.dumps({"tags": asked_for})},
        {"where": json.dumps({"tags": {"in": ["tea", asked_for]}})},
        {"where": json.dumps({f"{asked_for}.in": 1})},
    ]
    for each in filters:
        assert ids(listed(client, **each)) == [red], each
    # Case counts in a tag, unlike in a search text.
    assert listed(client, tag="plain") == []
    response = client.put(f"/images/{red}/metadata", json=metadata)
    assert ids(listed(client, tag=asked_for)) == [red]
    assert response.json()["metadata"]["tags"] == ["caf\u00e9", "Plain"]


def test_a_filtered_list_is_read_page_by_page(
    client: TestClient, album: dict[str, str]
) -> None:
    parameters = {"where": '{"year": 2023}', "limit": 1}
    first = client.get("/images", params=parameters).json()
    parameters["cursor"] = first["next_cursor"]
    second = client.get("/images", params=parameters).json()
    assert ids(first["images"]) == [album["yellow"]]
    assert ids(second["images"]) == [album["blue"]]
    assert second["next_cursor"] is None


def test_a_question_searches_only_where_the_filter_holds(
    client: TestClient, album: dict[str, str]
) -> None:
    assert ask(client, "red", tags=["cold"])["answer"] == "I see blue."
    answer = ask(client, "red", where={"camera": "A"})
    assert ids(answer["images"]) == [album["yellow"]]
    response = asked(client, "red", tags=["hot"])
    assert_problem(response, 404, "no-images")


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
        ('{"a": {"exists": "yes"}}', "bad-filter"),
        ('{"or": []}', "bad-filter"),
        ('{"a": "\\ud800"}', "bad-filter"),
        ("[" * 4000, "invalid-input"),
        ("x" * 5000, "invalid-input"),
    ],
)
def test_a_filter_that_is_none_is_422(
    client: TestClient, where: str, kind: str
) -> None:
    response = client.get("/images", params={"where": where})
    assert_problem(response, 422, kind)
    response = client.get("/search", params={"q": "red", "where": where})
    assert_problem(response, 422, kind)


def test_a_bad_filter_of_a_question_is_422(client: TestClient) -> None:
    unknown = asked(client, "a", where={"a": {"like": "x"}})
    assert_problem(unknown, 422, "bad-filter")
    response = asked(client, "a", where=[])
    assert_problem(response, 422, "invalid-input")


def test_metadata_are_replaced_and_filters_follow(
    client: TestClient, album: dict[str, str]
) -> None:
    before = record(client, album["red"])
    response = client.put(f"/images/{album['red']}/metadata", json={"tags": ["cold"]})
    assert response.status_code == 200
    assert response.json() == {**before, "metadata": {"tags": ["cold"]}}
    assert record(client, album["red"]) == response.json()
    cold = ids(search(client, "red", tag="cold"))
    assert set(cold) == {album["red"], album["blue"]}


@pytest.mark.parametrize(
    "content",
    ["[]", "3", "null", "{", '{"a": NaN}', '{"a": 1e999}', '{"a": "\\ud800"}'],
)
def test_metadata_that_cannot_be_stored_change_nothing(
    client: TestClient, content: str
) -> None:
    (red,) = add(client, "red")
    headers = {"content-type": "application/json"}
    response = client.put(f"/images/{red}/metadata", content=content, headers=headers)
    assert_problem(response, 422, "invalid-input")
    assert record(client, red)["metadata"] == {}


def test_metadata_of_an_unknown_image_are_404(client: TestClient) -> None:
    response = client.put("/images/nope/metadata", json={})
    assert_problem(response, 404, "image-not-found")
