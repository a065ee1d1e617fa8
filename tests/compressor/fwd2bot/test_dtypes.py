"""A base model in bfloat16 or float16, from the folder to the answer; trained parts in float32."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from compressor.fwd2bot import adapter_folder
from compressor.fwd2bot.adapter_folder import base_name
from compressor.fwd2bot.load import assemble, load_production
from compressor.fwd2bot.model import SummaryLvlm
from compressor.fwd2bot.placement import Placement
from compressor.ports import GenerationLimits, GenerationRequest, Turn
from compressor.training.config import TrainConfig
from tests.compressor.production import ARCHITECTURES, SUMMARY, production_model
from tests.compressor.tiny import trained
from tests.compressor.training.samples import sample, stepped
from tests.conformance.summary_model_suite import pictures

HALVES = ["bfloat16", "float16"]
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small LLaVA as `save_pretrained` leaves it."""
    path = tmp_path_factory.mktemp("llava")
    model = production_model(ARCHITECTURES[0])
    base = model.lvlm.unload()
    base.set_input_embeddings(model.embedding.words)
    base.save_pretrained(path)
    model.processor.save_pretrained(path)
    return path


def train(model: SummaryLvlm, steps: int) -> list[float]:
    """Losses of some steps on the same three samples."""
    recipe = TrainConfig(batch_size=3)
    batch = [sample(number) for number in range(3)]
    parameters = [parameter for _, parameter in model.trained_parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=1e-2)
    losses = []
    for _ in range(steps):
        total = stepped(model, batch, recipe).total(recipe)
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        losses.append(total.item())
    assert all(parameter.dtype == torch.float32 for parameter in parameters)
    assert all(parameter.isfinite().all() for parameter in parameters)
    return losses


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("device", DEVICES)
def test_trained_saved_resumed_merged_and_served(
    folder: Path, tmp_path: Path, device: str, dtype: str
) -> None:
    """On a card too its tokens and embeddings are held against those of a CPU in float32."""
    placement = Placement(device, dtype)
    config = dataclasses.replace(SUMMARY, base_model=base_name(folder))
    model = assemble(folder, config, placement=placement, training=True)
    losses = train(model, 4)
    adapter_folder.save(model, tmp_path)

    resumed = assemble(folder, config, placement=placement, training=True)
    adapter_folder.load(resumed, tmp_path)
    losses += train(resumed, 3)
    assert losses[-1] < 0.9 * losses[0]
    assert losses[4] < losses[0]
    adapter_folder.save(resumed, tmp_path)

    summary_model, generator = load_production(folder, tmp_path, placement=placement)
    summary = summary_model.compress(pictures())
    exact = load_production(folder, tmp_path, placement=Placement("cpu", "float32"))[0]
    expected = exact.compress(pictures())
    difference = np.linalg.norm(summary.tokens - expected.tokens)
    assert 0 < difference < 0.05 * np.linalg.norm(expected.tokens)
    assert (summary.embeddings * expected.embeddings).sum(1).min() > 0.99
    question = [Turn("user", "What is in the image?")]
    request = GenerationRequest([summary.tokens[0]], question)
    pieces = list(generator.generate([request], [GenerationLimits(4)]))
    assert pieces[-1].finish_reason
    assert pieces[-1].completion_tokens > 0


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda made: made.__name__)
def test_merged_adapters_are_as_near_to_float32_as_separate_ones(
    architecture: object, dtype: str
) -> None:
    expected = _tokens(trained(production_model(architecture)))
    separate, merged = (_in(production_model(architecture), dtype) for _ in range(2))
    merged.merge_adapters()
    scale = expected.norm()
    distances = [
        float((_tokens(each) - expected).norm() / scale) for each in (separate, merged)
    ]
    assert 0 < distances[1] < 2 * distances[0]
    assert distances[1] < 0.1


def _in(model: SummaryLvlm, dtype: str) -> SummaryLvlm:
    trained(model)
    for parameter in model.parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.to(getattr(torch, dtype))
    return model


def _tokens(model: SummaryLvlm) -> torch.Tensor:
    with torch.inference_mode():
        return model.first_pass(model.first_pass_inputs(pictures())).tokens
