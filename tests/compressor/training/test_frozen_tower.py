"""The vision tower's output is shared by the first pass and the teacher, and only by them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from compressor.fwd2bot.model import SummaryLvlm
from compressor.training import grad_cache, step
from compressor.training.config import TrainConfig
from compressor.training.frozen_tower import seen_once
from compressor.training.grad_cache import backward
from tests.compressor.training.samples import ready, sample

BATCH = [sample(number) for number in range(4)]
RECIPE = TrainConfig(distillation_weight=1.0, contrastive_weight=0.0, workers=0)


def tower_of(model: SummaryLvlm) -> nn.Module:
    tower = model.base.get_encoder(modality="image")
    assert isinstance(tower, nn.Module)
    return tower


@contextmanager
def counted(tower: nn.Module) -> Iterator[list[int]]:
    """How many images the tower reads at a time within the block."""
    counts: list[int] = []
    forward = tower.forward

    def counting(*args: Any, **kwargs: Any) -> Any:
        (images,) = [
            each for each in (*args, *kwargs.values()) if torch.is_tensor(each)
        ]
        counts.append(len(images))
        return forward(*args, **kwargs)

    tower.forward = counting
    try:
        yield counts
    finally:
        tower.forward = forward


@contextmanager
def run_every_time(_: SummaryLvlm) -> Iterator[None]:
    yield


@pytest.mark.parametrize(("size", "counts"), [(4, [4]), (2, [2, 2])])
def test_first_pass_and_teacher_read_one_output_of_the_tower(
    model: SummaryLvlm, monkeypatch: pytest.MonkeyPatch, size: int, counts: list[int]
) -> None:
    tower = tower_of(model)
    batches = ready(model, BATCH, RECIPE, size)
    with counted(tower) as seen:
        shared = backward(model, batches, RECIPE)
    assert seen == counts

    for module in (step, grad_cache):
        monkeypatch.setattr(module, "seen_once", run_every_time)
    with counted(tower) as seen:
        separate = backward(model, batches, RECIPE)
    assert seen == [count for count in counts for _ in range(2)]
    assert torch.equal(shared.distillation, separate.distillation)
    assert torch.equal(shared.autoregressive, separate.autoregressive)


def test_other_images_are_seen_anew(model: SummaryLvlm) -> None:
    tower = tower_of(model)
    batches = ready(model, BATCH, replace(RECIPE, distillation_weight=0.0), 2)
    with counted(tower) as seen, seen_once(model):
        outputs = [model.first_pass(batch.inputs).tokens for batch in batches]
    assert seen == [2, 2]
    assert not torch.equal(*outputs)


def test_a_tower_that_is_trained_is_run_every_time(model: SummaryLvlm) -> None:
    tower = tower_of(model)
    next(tower.parameters()).requires_grad_(True)
    (batch,) = ready(model, BATCH, RECIPE)
    with counted(tower) as seen:
        backward(model, [batch], RECIPE)
    assert seen == [4, 4]


def test_the_tower_is_its_own_again_after_a_failure(model: SummaryLvlm) -> None:
    tower = tower_of(model)
    before = tower.forward
    with pytest.raises(ValueError, match="broken"), seen_once(model):
        raise ValueError("broken")
    assert tower.forward == before
