"""LVLMs from a folder on disk, with adapters and without any."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from compressor.errors import DeviceUnavailable, ModelFilesInvalid, ModelFilesMissing
from compressor.fwd2bot import adapter_folder
from compressor.fwd2bot.adapter_folder import base_name
from compressor.fwd2bot.config import SummaryConfig
from compressor.fwd2bot.load import assemble, load_production, training_free_fingerprint
from compressor.fwd2bot.model import SummaryLvlm
from compressor.fwd2bot.placement import Placement
from compressor.ports import GenerationLimits, GenerationRequest, ModelDescription, Turn
from tests.compressor.production import SUMMARY, llava
from tests.compressor.tiny import trained
from tests.conformance.summary_model_suite import pictures


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small LLaVA as `save_pretrained` leaves it."""
    path = tmp_path_factory.mktemp("llava")
    model, processor = llava()
    model.save_pretrained(path)
    processor.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def adapters(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("adapters")
    adapter_folder.save(
        trained(
            SummaryLvlm(
                *llava(), dataclasses.replace(SUMMARY, base_model=base_name(folder))
            )
        ),
        path,
    )
    return path


def test_training_free_tokens_answer_and_find(folder: Path) -> None:
    model, generator = load_production(folder, None)
    again, _ = load_production(folder, None)
    summary = model.compress(pictures())
    assert summary.tokens.shape == (len(pictures()), 8, 32)
    np.testing.assert_array_equal(summary.tokens, again.compress(pictures()).tokens)
    np.testing.assert_array_equal(
        summary.embeddings, again.compress(pictures()).embeddings
    )
    assert model.fingerprint == again.fingerprint
    scores = summary.embeddings @ model.embed_text(["a cat", "the sea at night"]).T
    assert np.ptp(scores) > 1e-3
    request = GenerationRequest(
        [summary.tokens[0]], [Turn("user", "What is in the image?")]
    )
    assert list(generator.generate([request], [GenerationLimits(4)]))[-1].finish_reason


def test_soft_words_one_by_one_are_another_model(folder: Path) -> None:
    at_once, _ = load_production(folder, None)
    in_turn, generator = load_production(folder, None, "sequential")
    assert (at_once.description.mode, in_turn.description.mode) == (
        "soft words",
        "soft words, one by one",
    )
    assert (
        at_once.description.base_model
        == in_turn.description.base_model
        == base_name(folder)
    )
    assert in_turn.description.budgets == (8,)
    assert at_once.fingerprint != in_turn.fingerprint
    one, other = at_once.compress(pictures()), in_turn.compress(pictures())
    np.testing.assert_allclose(one.tokens[:, 0], other.tokens[:, 0], atol=1e-5)
    assert np.abs(one.tokens[:, 1:] - other.tokens[:, 1:]).max() > 1e-5
    assert np.isfinite(other.embeddings).all()
    request = GenerationRequest(
        [other.tokens[0]], [Turn("user", "What is in the image?")]
    )
    assert list(generator.generate([request], [GenerationLimits(4)]))[-1].finish_reason


def test_the_fingerprint_of_soft_words_stays_what_it_is() -> None:
    """Another one would make every library of such a model unreadable."""
    config = SummaryConfig(
        base_model="llava@0123456789abcdef", token_count=8, readout="soft_words"
    )
    assert training_free_fingerprint(config) == "b52f46d8f0b414ddebf5c9ee02ae5674"


def test_adapters_change_the_tokens_and_the_fingerprint(
    folder: Path, adapters: Path
) -> None:
    free, _ = load_production(folder, None)
    model, _ = load_production(folder, adapters)
    assert model.tokens_shape == (SUMMARY.token_count, 32)
    assert model.fingerprint == adapter_folder.fingerprint(adapters) != free.fingerprint
    assert model.description == ModelDescription(
        base_name(folder), "adapters", (SUMMARY.token_count,)
    )
    assert np.isfinite(model.compress(pictures()).tokens).all()


def test_adapters_of_another_base_model_are_refused(
    folder: Path, adapters: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "initializer_range": 0.5}))
    assert base_name(other) != base_name(folder)
    with pytest.raises(ModelFilesInvalid, match="belongs to the base model"):
        load_production(other, adapters)


def test_folders_that_hold_no_model_are_told(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelFilesMissing, match="no model"):
        load_production(tmp_path, None)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelFilesInvalid, match="configuration"):
        load_production(tmp_path, None)
    shutil.copy(folder / "config.json", tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"a pickle")
    with pytest.raises(ModelFilesMissing, match="safetensors"):
        load_production(tmp_path, None)


def test_a_dtype_is_the_base_models_and_no_trained_parts(folder: Path) -> None:
    placement = Placement("cpu", "bfloat16")
    model = assemble(folder, SummaryConfig(base_name(folder)), placement=placement)
    for name, parameter in model.named_parameters():
        trained = parameter.requires_grad
        assert parameter.dtype == (torch.float32 if trained else torch.bfloat16), name


def test_a_device_that_is_not_there_is_refused(folder: Path) -> None:
    with pytest.raises(DeviceUnavailable, match="cuda:99"):
        load_production(folder, None, placement=Placement("cuda:99"))
