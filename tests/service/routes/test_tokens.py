"""Summary tokens out of one library and into another, and embeddings of texts, through HTTP."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from httpx import Response
from safetensors.numpy import load

from tests.fakes.model import EMBEDDING_SIZE, FakeSummaryModel
from tests.service.conftest import (
    Start,
    add,
    ask,
    assert_problem,
    counting,
    factory,
    ids,
    listed,
    picture,
    record,
    search,
    upload,
    uploaded,
)


class OtherModel(FakeSummaryModel):
    """The fake model under another fingerprint."""

    fingerprint = "ab" * 32


class WiderModel(FakeSummaryModel):
    """Of the same fingerprint, though its tokens have another size."""

    tokens_shape = (4, 20)


def tokens_of(client: TestClient, image_id: str) -> bytes:
    response = client.get(f"/images/{image_id}/tokens")
    assert response.status_code == 200, response.text
    return response.content


def send_tokens(client: TestClient, *contents: bytes, **options: Any) -> Response:
    parts = [
        ("file", (f"{number}.safetensors", content))
        for number, content in enumerate(contents)
    ]
    return client.post("/tokens", files=parts, **options)


def test_images_move_to_another_library(start: Start, tmp_path: Path) -> None:
    here = start(data_dir=tmp_path / "here")
    metadata = '{"album": "é"}'
    images = uploaded(here, "red", "blue", metadata=metadata)
    contents = [tokens_of(here, id) for id in ids(images)]
    batches: list[int] = []
    there = start(factory(counting(batches)), data_dir=tmp_path / "there")
    batches.clear()
    moved = send_tokens(there, *contents)
    assert moved.status_code == 201
    assert [image["status"] for image in moved.json()["images"]] == ["created"] * 2
    for image in images:
        copy = record(there, image["id"])
        for member in ("sha256", "fingerprint", "width_px", "height_px", "metadata"):
            assert copy[member] == image[member]
        assert load(tokens_of(there, image["id"])).keys() == {"tokens", "embedding"}
    ours, copy = (load(tokens_of(client, images[0]["id"])) for client in (here, there))
    np.testing.assert_allclose(copy["tokens"], ours["tokens"], atol=0.01)
    np.testing.assert_allclose(copy["embedding"], ours["embedding"], atol=1e-6)
    assert (
        ask(there, "what is it", image_ids=[images[1]["id"]])["answer"] == "I see blue."
    )
    assert batches == []
    scores = [[hit["score"] for hit in search(each, "red")] for each in (here, there)]
    np.testing.assert_allclose(*scores, atol=1e-6)
    again = send_tokens(there, *contents)
    assert again.status_code == 200
    assert [image["status"] for image in again.json()["images"]] == ["exists"] * 2
    # The picture itself, uploaded later, is recognised by its content.
    assert upload(there, "red").status_code == 200


def test_the_name_of_the_file_is_the_id(client: TestClient) -> None:
    (red,) = add(client, "red")
    response = client.get(f"/images/{red}/tokens")
    expected = f'attachment; filename="{red}.safetensors"'
    assert response.headers["content-disposition"] == expected
    response = client.get("/images/unknown/tokens")
    assert_problem(response, 404, "image-not-found")


def test_tokens_of_another_model_are_refused(start: Start, tmp_path: Path) -> None:
    response = moved_to(OtherModel(), start, tmp_path)
    assert_problem(response, 409, "wrong-fingerprint")


# A cluster notices that this model's own summaries have another shape than it tells.
@pytest.mark.deployments("single")
def test_tokens_of_another_shape_are_refused(start: Start, tmp_path: Path) -> None:
    response = moved_to(WiderModel(), start, tmp_path)
    assert_problem(response, 422, "invalid-token-file")


def moved_to(model: FakeSummaryModel, start: Start, folder: Path) -> Response:
    """The answer of a library with this model to an image of the fake model's."""
    here = start(data_dir=folder / "here")
    (red,) = add(here, "red")
    there = start(factory(model), data_dir=folder / "there")
    response = send_tokens(there, tokens_of(here, red))
    assert listed(there) == []
    return response


def test_one_bad_file_and_nothing_is_stored(start: Start, tmp_path: Path) -> None:
    here = start(data_dir=tmp_path / "here")
    (red,) = add(here, "red")
    there = start(data_dir=tmp_path / "there")
    problem = assert_problem(
        send_tokens(there, tokens_of(here, red), picture()), 422, "invalid-token-file"
    )
    assert problem["detail"].startswith("1.safetensors: ")
    assert listed(there) == []


def test_a_number_of_tokens_that_is_no_budget_is_refused(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = start(data_dir=tmp_path / "here")
    (image,) = uploaded(here, "red", tokens="2")
    there = start(data_dir=tmp_path / "there")
    assert send_tokens(there, tokens_of(here, image["id"])).status_code == 201
    monkeypatch.setattr(there.app.state.runtime, "_budgets", (4,))  # type: ignore[attr-defined]
    response = send_tokens(there, tokens_of(here, image["id"]))
    problem = assert_problem(response, 422, "invalid-token-file")
    assert "holds 2 summary tokens; the model keeps 4" in problem["detail"]


def test_texts_are_embedded_as_searches_embed_them(client: TestClient) -> None:
    (red,) = add(client, "red")
    texts = ["a red thing", "a blue thing", "a red thing"]
    body = client.post("/embeddings", json={"texts": texts}).json()
    embeddings = np.array(body["embeddings"])
    assert embeddings.shape == (3, EMBEDDING_SIZE)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(embeddings[0], embeddings[2])
    assert body["fingerprint"] == record(client, red)["fingerprint"]
    image = load(tokens_of(client, red))["embedding"]
    expected = [search(client, text)[0]["score"] for text in texts]
    np.testing.assert_allclose(embeddings @ image, expected, atol=1e-5)


@pytest.mark.parametrize(
    "texts", [[], [""], ["a" * 2001], ["a"] * 65, "a", [1], ["\ud800"]]
)
def test_texts_that_cannot_be_embedded_are_422(client: TestClient, texts: Any) -> None:
    headers = {"content-type": "application/json"}
    content = json.dumps({"texts": texts})
    response = client.post("/embeddings", content=content, headers=headers)
    assert_problem(response, 422, "invalid-input")
