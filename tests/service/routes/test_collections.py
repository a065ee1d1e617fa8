"""Collections: isolated libraries in one service."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from tests.fakes.model import InterruptedModel
from tests.service.conftest import (
    Start,
    add,
    assert_problem,
    factory,
    files,
    ids,
    listed,
    picture,
    search,
    stop,
    upload,
    uploaded,
)

PETS = {"collection": "pets"}
CARS = {"collection": "cars"}


def names(client: TestClient) -> list[str]:
    collections = client.get("/collections").json()["collections"]
    return [collection["name"] for collection in collections]


def test_collections_are_isolated(client: TestClient) -> None:
    assert client.put("/collections/pets").json() == {"name": "pets"}
    (red,) = add(client, "red")
    images = uploaded(client, "red", "blue", params=PETS)
    assert [image["status"] for image in images] == ["created", "created"]
    blue = images[1]["id"]
    assert ids(listed(client)) == [red]
    assert ids(listed(client, **PETS)) == [red, blue]
    response = client.get(f"/images/{blue}")
    assert_problem(response, 404, "image-not-found")
    response = client.get(f"/images/{blue}/thumbnail", params=PETS)
    assert response.status_code == 200
    assert ids(search(client, "blue")) == [red]
    assert search(client, "blue", **PETS)[0]["id"] == blue
    answered = client.post("/ask", json={"question": "blue"}, params=PETS)
    assert answered.json()["answer"] == "I see blue."
    response = client.delete(f"/images/{red}", params=PETS)
    assert response.status_code == 204
    response = client.get(f"/images/{red}")
    assert response.status_code == 200


def test_they_are_listed_kept_and_deleted(start: Start) -> None:
    client = start()
    for name in ("pets", "a-2"):
        response = client.put(f"/collections/{name}")
        assert response.status_code == 201
    upload(client, "red", params=PETS)
    assert names(client) == ["a-2", "pets"]
    stop(client)
    again = start()
    assert len(listed(again, **PETS)) == 1
    response = again.delete("/collections/pets")
    assert response.status_code == 204
    response = again.get("/images", params=PETS)
    assert_problem(response, 404, "collection-missing")
    assert names(again) == ["a-2"]
    again.put("/collections/pets")
    assert listed(again, **PETS) == []


def test_what_is_not_there_or_there_already_is_said(client: TestClient) -> None:
    client.put("/collections/pets")
    response = client.put("/collections/pets")
    assert_problem(response, 409, "collection-exists")
    response = client.delete("/collections/cars")
    assert_problem(response, 404, "collection-missing")
    responses = [
        client.get("/images", params=CARS),
        client.post("/images", files=files(picture()), params=CARS),
        client.get("/search", params={"q": "red", **CARS}),
        client.post("/ask", json={"question": "red"}, params=CARS),
    ]
    for response in responses:
        assert_problem(response, 404, "collection-missing")


def test_a_collection_deleted_in_use_is_404_and_not_the_end(start: Start) -> None:
    def delete(_: object) -> None:
        for client in clients:
            client.delete("/collections/pets")

    clients: list[TestClient] = []
    client = start(factory(InterruptedModel(delete)))
    client.put("/collections/pets")
    # Deleted while the model works on the upload.
    clients.append(client)
    response = upload(client, "red", params=PETS)
    assert_problem(response, 404, "collection-missing")
    assert client.get("/readyz").status_code == 200


def test_metrics_count_the_images_of_each_collection(start: Start) -> None:
    client = start()
    for name in ("pets", "cars"):
        client.put(f"/collections/{name}")
    uploaded(client, "red", "blue", params=PETS)
    stop(client)
    lines = start().get("/metrics").text.splitlines()
    assert 'precis_collection_images{collection="pets"} 2.0' in lines
    assert 'precis_collection_images{collection="cars"} 0.0' in lines


@pytest.mark.parametrize(
    "name", ["Pets", "a b", "-a", "..", "%2e%2e%2fx", "é", "a" * 64]
)
def test_a_bad_name_makes_nothing(client: TestClient, name: str) -> None:
    response = client.put(f"/collections/{name}")
    assert response.status_code in (404, 405, 422)
    response = client.get("/images", params={"collection": name})
    assert response.status_code in (404, 422)
    assert names(client) == []
