"""Models from files, and what comes with them: a trained token codec, and the curve from scores to
probabilities.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from compressor.errors import DeviceUnavailable
from compressor.text import normalise_text
from index.calibration import write_calibration
from index.codecs.train import MIN_SAMPLE, train_codec, write_state
from service.models import model_factory
from service.settings import Settings
from tests.compressor.production import llava
from tests.fakes.model import (
    TOKEN_COUNT,
    TOKEN_DIM,
    made_up_calibration,
)
from tests.service.conftest import Start, add, ask, factory, flat, ids, search, uploaded


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained state of a codec of two bytes a token."""
    path = tmp_path_factory.mktemp("model") / "pq2.faiss"
    random = np.random.default_rng(0)
    tokens = random.normal(size=(MIN_SAMPLE, TOKEN_DIM))
    codec = train_codec("pq2", tokens.astype(np.float32))
    write_state(codec, path)
    return path


def test_images_are_kept_in_the_models_own_codec(start: Start, state: Path) -> None:
    client = start(factory(codec_state=state))
    (image,) = uploaded(client, "red")
    assert image["tokens"]["codec"].startswith("pq2@")
    assert image["tokens"]["bytes"] == 2 * TOKEN_COUNT
    assert ask(client, "What?")["answer"]


def test_a_setting_goes_before_the_models_own_codec(start: Start, state: Path) -> None:
    client = start(factory(codec_state=state), codec="fp16")
    (image,) = uploaded(client, "red")
    assert image["tokens"]["codec"] == "fp16"


def test_the_models_own_codec_can_be_named(start: Start, state: Path) -> None:
    client = start(factory(codec_state=state), codec="pq2")
    (image,) = uploaded(client, "red")
    assert image["tokens"]["codec"].startswith("pq2@")


def test_hits_have_the_probability_of_the_models_own_curve(
    start: Start, tmp_path: Path
) -> None:
    calibration = made_up_calibration()
    path = tmp_path / "calibration.json"
    write_calibration(calibration, path)
    client = start(factory(calibration=path))
    add(client, "red")
    for text in ("red", "Red and blue, ...", "a red wall"):
        (hit,) = search(client, text)
        curve = calibration.curve_of(normalise_text(text))
        assert hit["probability"] == pytest.approx(curve.probability(hit["score"]))


def test_an_lvlm_in_a_folder_is_served_without_adapters(
    start: Start, tmp_path: Path
) -> None:
    folder = tmp_path / "llava"
    for part in llava():
        part.save_pretrained(folder)
    client = start(model_factory("lvlm"), model_dir=folder)
    (image,) = uploaded(client, "red")
    assert image["tokens"] == {
        "count": 8,
        "dim": 32,
        "codec": "sq8",
        "bytes": 8 * (8 + 32),
    }
    assert ids(search(client, "a cat")) == [image["id"]]
    answer = ask(client, "What is this?", image_ids=[image["id"]], max_tokens=4)
    assert answer["images"][0]["id"] == image["id"]


@pytest.mark.parametrize("name", ["default", "lvlm"])
def test_the_device_is_checked_before_any_file_is_read(
    name: str, tmp_path: Path
) -> None:
    settings = Settings(model_dir=tmp_path / "nothing", device="cuda:99")
    with pytest.raises(DeviceUnavailable):
        model_factory(name)(settings)


def test_an_lvlm_runs_in_the_dtype_of_the_settings(tmp_path: Path) -> None:
    for part in llava():
        part.save_pretrained(tmp_path)

    def embedding(dtype: str) -> NDArray[np.float32]:
        settings = Settings(model_dir=tmp_path, device="cpu", dtype=dtype)
        summary = model_factory("lvlm")(settings).summary
        (row,) = summary.compress([flat("red")]).embeddings
        return row

    exact = embedding("float32")
    rounded = embedding("bfloat16")
    assert not np.array_equal(exact, rounded)
    assert float(exact @ rounded) > 0.999
