"""Training on a CUDA card: `make test-gpu`. The same tests rehearse on the CPU with every run."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch

from compressor.fwd2bot.model import SummaryLvlm
from compressor.training.config import TrainConfig
from compressor.training.grad_cache import backward
from compressor.training.trainer import train
from tests.compressor.tiny import trained
from tests.compressor.training.samples import Stream, ready, sample, tiny_lvlm

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
RECIPE = TrainConfig(
    steps=6,
    batch_size=4,
    warmup_steps=1,
    save_every=3,
    first_pass_lr=1e-2,
    second_pass_lr=1e-2,
    head_lr=1e-2,
    workers=0,
)


def model_on(device: str) -> SummaryLvlm:
    return trained(tiny_lvlm()).to(device)


def losses(
    model: SummaryLvlm, recipe: TrainConfig, run: Path, steps: int
) -> list[float]:
    logs = islice(train(model, Stream(), recipe, run), steps)
    return [log.autoregressive for log in logs if log.autoregressive is not None]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_run_resumes_on_its_device(device: str, dtype: str, tmp_path: Path) -> None:
    """The first step after a resume needs AdamW's moments where the parameters are."""
    recipe = replace(RECIPE, dtype=dtype)
    whole = losses(model_on(device), recipe, tmp_path / "whole", steps=6)
    losses(model_on(device), recipe, tmp_path / "cut", steps=3)
    resumed = model_on(device)
    rest = losses(resumed, recipe, tmp_path / "cut", steps=6)
    assert rest == pytest.approx(whole[3:], rel=1e-2)
    assert whole[-1] < whole[0]
    weights = [parameter for _, parameter in resumed.trained_parameters()]
    assert {weight.device.type for weight in weights} == {device}
    assert {weight.dtype for weight in weights} == {torch.float32}


@pytest.mark.parametrize("device", DEVICES)
def test_eight_micro_batches_are_one_step_of_the_whole_batch(device: str) -> None:
    recipe = replace(RECIPE, batch_size=8, dtype="float32")
    batch = [sample(number) for number in range(8)]
    whole, parts = model_on(device), model_on(device)
    backward(whole, ready(whole, batch, recipe), recipe)
    backward(parts, ready(parts, batch, recipe, size=1), recipe)
    gradients = {name: weight.grad for name, weight in parts.trained_parameters()}
    for name, weight in whole.trained_parameters():
        if weight.grad is None:
            assert gradients[name] is None
            continue
        near = 1e-5 + 5e-3 * float(weight.grad.abs().max())  # sums in another order
        torch.testing.assert_close(gradients[name], weight.grad, atol=near, rtol=1e-3)


@pytest.mark.gpu
def test_a_step_on_the_card_is_that_of_the_cpu() -> None:
    recipe = replace(RECIPE, dtype="float32")
    batch = [sample(number) for number in range(4)]
    found = []
    for device in ("cpu", "cuda"):
        model = model_on(device)
        step = backward(model, ready(model, batch, recipe), recipe)
        found.append(
            torch.tensor([float(step.autoregressive), float(step.contrastive)])
        )
    torch.testing.assert_close(found[1], found[0], atol=1e-3, rtol=1e-3)
