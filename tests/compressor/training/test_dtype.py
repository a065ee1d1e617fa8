"""Mixed precision: forward passes in bfloat16, everything that is trained in float32."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from compressor.errors import RecipeInvalid
from compressor.fwd2bot.model import SummaryLvlm
from compressor.training import step as step_module
from compressor.training.config import TrainConfig
from compressor.training.step import info_nce
from compressor.training.trainer import build_optimizer, train
from tests.compressor.tiny import trained
from tests.compressor.training.samples import Stream, stepped, tiny_lvlm, uneven_batch

CONFIG = TrainConfig(steps=3, batch_size=4, warmup_steps=0, workers=0, dtype="bfloat16")


def in_bfloat16(model: SummaryLvlm) -> SummaryLvlm:
    """The frozen base model as it is loaded for a GPU."""
    for parameter in model.parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.bfloat16()
    return model


@pytest.mark.parametrize("base", ["bfloat16", "float32"])
def test_losses_in_bfloat16_are_near_those_in_float32(base: str) -> None:
    config = replace(CONFIG, batch_size=7)
    expected = stepped(
        trained(tiny_lvlm()), uneven_batch(), replace(config, dtype="float32")
    )
    model = trained(tiny_lvlm())
    if base == "bfloat16":
        in_bfloat16(model)
    losses = stepped(model, uneven_batch(), config)
    for name in ("autoregressive", "contrastive"):
        loss, exact = getattr(losses, name), getattr(expected, name)
        torch.testing.assert_close(loss, exact, rtol=0.03, atol=0.03)
        assert loss.dtype == torch.float32
        assert not torch.equal(loss, exact)  # or nothing ran in bfloat16


def test_what_is_trained_and_its_gradients_stay_float32() -> None:
    model = in_bfloat16(tiny_lvlm())
    stepped(model, uneven_batch(), CONFIG).total(CONFIG).backward()
    for name, parameter in model.trained_parameters():
        assert parameter.dtype == torch.float32, name
        if parameter.grad is not None:
            assert parameter.grad.dtype == torch.float32, name


def test_trained_parts_that_were_loaded_in_bfloat16_get_float32_masters() -> None:
    model = in_bfloat16(tiny_lvlm())
    for _, parameter in model.trained_parameters():
        parameter.data = parameter.data.bfloat16()
    optimizer = build_optimizer(model, CONFIG)
    for group in optimizer.param_groups:
        assert {parameter.dtype for parameter in group["params"]} == {torch.float32}


def test_a_run_in_bfloat16_learns_and_logs_what_it_learnt(tmp_path: Path) -> None:
    config = replace(
        CONFIG, steps=12, first_pass_lr=1e-2, second_pass_lr=1e-2, head_lr=1e-2
    )
    model = in_bfloat16(tiny_lvlm())
    logs = list(train(model, Stream(), config, tmp_path))
    first, last = logs[0].autoregressive, logs[-1].autoregressive
    assert first is not None
    assert last is not None
    assert last < 0.8 * first
    assert all(
        parameter.dtype == torch.float32 for _, parameter in model.trained_parameters()
    )


def test_similarities_are_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """In bfloat16 similarities above 0.996 would all be 1."""
    seen = []

    def recorded(
        images: torch.Tensor, texts: torch.Tensor, *others: torch.Tensor
    ) -> torch.Tensor:
        seen.append((images @ texts.T).dtype)
        return info_nce(images, texts, *others)

    monkeypatch.setattr(step_module, "info_nce", recorded)
    stepped(in_bfloat16(tiny_lvlm()), uneven_batch(), CONFIG)
    assert seen == [torch.float32]


@pytest.mark.parametrize(
    ("loaded", "dtype"),
    [
        (torch.float16, "float32"),
        (torch.float16, "bfloat16"),
        (torch.float16, "auto"),
        (torch.bfloat16, "float32"),
    ],
)
def test_a_base_model_in_a_coarser_dtype_is_refused(
    tmp_path: Path, loaded: torch.dtype, dtype: str
) -> None:
    model = tiny_lvlm()
    model.embedding.words.weight.data = model.embedding.words.weight.data.to(loaded)
    with pytest.raises(
        RecipeInvalid, match=f"loaded in {str(loaded)[6:]}, the recipe asks for"
    ):
        next(train(model, Stream(), replace(CONFIG, dtype=dtype), tmp_path / "run"))
    assert not (tmp_path / "run").exists()
