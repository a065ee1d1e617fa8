"""Collections: libraries side by side that know nothing of one another."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from tests.service.conftest import Start, add, assert_problem, files, picture

PETS = {"collection": "pets"}


def test_collections_are_isolated(client: TestClient) -> None:
    assert client.put("/collections/pets").json() == {"name": "pets"}
    (red,) = add(client, "red")
    response = client.post("/images", files=files(picture("red"), picture("blue")), params=PETS)
    assert response.status_code == 201
    assert [image["status"] for image in response.json()["images"]] == ["created", "created"]
    blue = response.json()["images"][1]["id"]
    assert [image["id"] for image in client.get("/images").json()["images"]] == [red]
    assert [image["id"] for image in client.get("/images", params=PETS).json()["images"]] == [
        red,
        blue,
    ]
    assert_problem(client.get(f"/images/{blue}"), 404, "image-not-found")
    assert client.get(f"/images/{blue}/thumbnail", params=PETS).status_code == 200
    assert [hit["id"] for hit in client.get("/search", params={"q": "blue"}).json()["results"]] == [
        red
    ]
    assert client.get("/search", params={"q": "blue", **PETS}).json()["results"][0]["id"] == blue
    assert (
        client.post("/ask", json={"question": "blue"}, params=PETS).json()["answer"]
        == "I see blue."
    )
    assert client.delete(f"/images/{red}", params=PETS).status_code == 204
    assert client.get(f"/images/{red}").status_code == 200


def test_they_are_listed_kept_and_deleted(start: Start) -> None:
    client = start()
    for name in ("pets", "a-2"):
        assert client.put(f"/collections/{name}").status_code == 201
    client.post("/images", files=files(picture("red")), params=PETS)
    assert client.get("/collections").json() == {"collections": [{"name": "a-2"}, {"name": "pets"}]}
    client.__exit__(None, None, None)
    again = start()
    assert len(again.get("/images", params=PETS).json()["images"]) == 1
    assert again.delete("/collections/pets").status_code == 204
    assert_problem(again.get("/images", params=PETS), 404, "collection-missing")
    assert again.get("/collections").json() == {"collections": [{"name": "a-2"}]}
    again.put("/collections/pets")
    assert again.get("/images", params=PETS).json()["images"] == []


def test_what_is_not_there_or_there_already_is_said(client: TestClient) -> None:
    client.put("/collections/pets")
    assert_problem(client.put("/collections/pets"), 409, "collection-exists")
    assert_problem(client.delete("/collections/cars"), 404, "collection-missing")
    for response in (
        client.get("/images", params={"collection": "cars"}),
        client.post("/images", files=files(picture()), params={"collection": "cars"}),
        client.get("/search", params={"q": "red", "collection": "cars"}),
        client.post("/ask", json={"question": "red"}, params={"collection": "cars"}),
    ):
        assert_problem(response, 404, "collection-missing")


@pytest.mark.parametrize("name", ["Pets", "a b", "-a", "..", "%2e%2e%2fx", "é", "a" * 64])
def test_a_bad_name_makes_nothing(client: TestClient, name: str) -> None:
    assert client.put(f"/collections/{name}").status_code in (404, 405, 422)
    assert client.get("/images", params={"collection": name}).status_code in (404, 422)
    assert client.get("/collections").json() == {"collections": []}
