"""Micro batches give the gradients of the whole batch."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from compressor.default_model.training.config import DefaultTrainConfig
from compressor.training.distributed import SINGLE
from compressor.training.grad_cache import backward
from tests.compressor.tiny import tiny_model
from tests.compressor.training.one_of_two import step_of

RECIPE = DefaultTrainConfig(batch_size=7, max_cells=0, contrastive_weight=0.7, words_weight=0.3)


@pytest.mark.parametrize("micro", [1, 2, 3, 7, 20])
@pytest.mark.parametrize(
    "changes", [{}, {"first_pass_lr": 0.0}, {"contrastive_weight": 0.0}, {"words_weight": 0.0}]
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
            parts[name], expected, atol=near, rtol=1e-4, msg=lambda m, n=name: f"{n}: {m}"
        )


def test_cells_are_drawn_alike_both_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the gradient would belong to other embeddings than those it flows through."""
    from compressor.training import grad_cache
    from tests.compressor.training.samples import uneven_batch

    model = tiny_model()
    model.base.keep_cells(2, model.processor)
    seen: list[torch.Tensor] = []
    look = grad_cache.first_pass

    def looked(*arguments: object) -> object:
        first = look(*arguments)  # type: ignore[arg-type]
        seen.append(first.tokens.detach().clone())
        return first

    monkeypatch.setattr(grad_cache, "first_pass", looked)
    recipe = replace(RECIPE, max_cells=2, micro_batch_size=3)
    backward(model, uneven_batch(), recipe)
    assert len(seen) == 6
    for once, again in zip(seen[:3], seen[3:], strict=True):
        assert torch.equal(once, again)
