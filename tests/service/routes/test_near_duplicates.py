"""What an upload is told of stored images that are nearly the same."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from index.errors import StoreError
from index.library import Library
from tests.fakes.model import fake_models
from tests.service.conftest import Start, ids, picture, send, upload, uploaded


def sizes(client: TestClient, *sides: int) -> list[dict[str, object]]:
    """Uploads red squares of these sides, which are nearly the same to the fake model."""
    response = send(client, *(picture("red", (side, side)) for side in sides))
    images: list[dict[str, object]] = response.json()["images"]
    return images


def told(image: dict[str, object]) -> set[object]:
    near = image["near_duplicates"]
    assert isinstance(near, list)
    assert all(0.95 <= each["score"] <= 1 for each in near)
    return {each["id"] for each in near}


def test_an_upload_names_the_stored_images_that_are_nearly_the_same(
    client: TestClient,
) -> None:
    red, blue = ids(uploaded(client, "red", "blue"))
    first, second = sizes(client, 50, 60)
    assert told(first) == {red, second["id"]}
    assert told(second) == {red, first["id"]}
    (again,) = uploaded(client, "blue")
    assert (again["status"], again["id"]) == ("exists", blue)
    assert told(again) == set()


def test_no_more_than_five_are_named_and_the_nearest_first(client: TestClient) -> None:
    sizes(client, *range(50, 57))
    (last,) = sizes(client, 60)
    near = last["near_duplicates"]
    assert isinstance(near, list)
    scores = [each["score"] for each in near]
    assert len(scores) == 5
    assert scores == sorted(scores, reverse=True)


def test_the_threshold_is_a_setting(start: Start) -> None:
    client = start(fake_models, near_duplicate_score=1)
    sizes(client, 50)
    (image,) = sizes(client, 60)
    assert told(image) == set()


# It breaks the library in this process.
@pytest.mark.deployments("single", "replicas")
def test_a_search_that_fails_does_not_fail_the_upload(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise StoreError("the disk is gone")

    monkeypatch.setattr(Library, "search", fail)
    response = upload(client, "red")
    assert response.status_code == 201
    (image,) = response.json()["images"]
    assert image["near_duplicates"] == []
