"""Models from files, and what comes with them: a trained token codec, and the curve from scores to
probabilities.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from index.calibration import Calibration, write_calibration
from index.codecs.train import MIN_SAMPLE, train_codec, write_state
from service.models import Models, model_factory
from tests.compressor.production import llava
from tests.fakes.model import TOKEN_COUNT, TOKEN_DIM, FakeGenerator, FakeSummaryModel
from tests.service.conftest import Start, add, files, picture


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained state of a codec of two bytes a token."""
    path = tmp_path_factory.mktemp("model") / "pq2.faiss"
    tokens = np.random.default_rng(0).normal(size=(MIN_SAMPLE, TOKEN_DIM)).astype(np.float32)
    write_state(train_codec("pq2", tokens), path)
    return path


def test_images_are_kept_in_the_models_own_codec(start: Start, state: Path) -> None:
    client = start(lambda _: Models(FakeSummaryModel(), FakeGenerator(), codec_state=state))
    tokens = client.post("/images", files=files(picture("red"))).json()["images"][0]["tokens"]
    assert tokens["codec"].startswith("pq2@")
    assert tokens["bytes"] == 2 * TOKEN_COUNT
    assert client.post("/ask", json={"question": "What?", "limit": 1}).status_code == 200


def test_a_setting_goes_before_the_models_own_codec(start: Start, state: Path) -> None:
    client = start(
        lambda _: Models(FakeSummaryModel(), FakeGenerator(), codec_state=state), codec="fp16"
    )
    assert (
        client.post("/images", files=files(picture("red"))).json()["images"][0]["tokens"]["codec"]
        == "fp16"
    )


def test_the_models_own_codec_can_be_named(start: Start, state: Path) -> None:
    client = start(
        lambda _: Models(FakeSummaryModel(), FakeGenerator(), codec_state=state), codec="pq2"
    )
    codec = client.post("/images", files=files(picture("red"))).json()["images"][0]["tokens"][
        "codec"
    ]
    assert codec.startswith("pq2@")


def test_hits_have_the_probability_of_the_models_own_curve(start: Start, tmp_path: Path) -> None:
    curve = Calibration(FakeSummaryModel.fingerprint, slope=10.0, intercept=-5.0)
    write_calibration(curve, tmp_path / "calibration.json")
    client = start(
        lambda _: Models(
            FakeSummaryModel(), FakeGenerator(), calibration=tmp_path / "calibration.json"
        )
    )
    add(client, "red")
    (hit,) = client.get("/search", params={"q": "red"}).json()["results"]
    assert hit["probability"] == pytest.approx(curve.probability(hit["score"]))


def test_an_lvlm_in_a_folder_is_served_without_adapters(start: Start, tmp_path: Path) -> None:
    folder = tmp_path / "llava"
    for part in llava():
        part.save_pretrained(folder)
    client = start(model_factory("lvlm"), model_dir=folder)
    (image,) = client.post("/images", files=files(picture("red"))).json()["images"]
    assert image["tokens"] == {"count": 8, "dim": 32, "codec": "sq8", "bytes": 8 * (8 + 32)}
    assert client.get("/search", params={"q": "a cat"}).json()["results"][0]["id"] == image["id"]
    answered = client.post(
        "/ask", json={"question": "What is this?", "image_ids": [image["id"]], "max_tokens": 4}
    )
    assert answered.status_code == 200
