"""Micro batches give the gradients of the whole batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch

from compressor.fwd2bot.model import FirstPass, SummaryLvlm
from compressor.training import grad_cache
from compressor.training.config import TrainConfig
from compressor.training.distributed import SINGLE
from compressor.training.grad_cache import backward
from tests.compressor.training.one_of_two import step_of
from tests.compressor.training.samples import ready, uneven_batch

RECIPE = TrainConfig(batch_size=7, contrastive_weight=0.7)


@pytest.mark.parametrize("micro", [1, 2, 3, 7, 20])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"first_pass_lr": 0.0},
        {"contrastive_weight": 0.0},
        {"autoregressive_weight": 0.0},
    ],
)
def test_micro_batches_give_the_gradients_of_the_whole(
    micro: int, changes: dict[str, float]
) -> None:
    recipe = replace(RECIPE, **changes)
    whole = step_of(recipe, SINGLE)
    parts = step_of(replace(recipe, micro_batch_size=micro), SINGLE)
    assert set(parts) == set(whole)
    for name, expected in whole.items():
        # A batch of one is summed in another order than one of seven.
        near = 1e-5 + 2e-3 * float(expected.abs().max())
        torch.testing.assert_close(
            parts[name],
            expected,
            atol=near,
            rtol=1e-4,
            msg=lambda m, n=name: f"{n}: {m}",
        )


@contextmanager
def noisy(model: SummaryLvlm) -> Iterator[None]:
    """Has the language model read its inputs with noise, as one with dropout does."""

    def add_noise(_: object, __: object, embedded: torch.Tensor) -> torch.Tensor:
        return embedded + torch.randn_like(embedded)

    hook = model.embedding.register_forward_hook(add_noise)
    try:
        yield
    finally:
        hook.remove()


def test_what_a_first_pass_draws_it_draws_alike_both_times(
    model: SummaryLvlm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the gradient would belong to other embeddings than those it flows through."""
    seen: list[torch.Tensor] = []
    first_pass = grad_cache.first_pass

    def recorded(*arguments: Any) -> FirstPass:
        first = first_pass(*arguments)
        seen.append(first.tokens.detach().clone())
        return first

    monkeypatch.setattr(grad_cache, "first_pass", recorded)
    batches = ready(model, uneven_batch(), RECIPE, size=3)
    with noisy(model):
        backward(model, batches, RECIPE)
    assert len(seen) == 6
    for once, again in zip(seen[:3], seen[3:], strict=True):
        assert torch.equal(once, again)
    assert not torch.equal(seen[0], seen[1])
