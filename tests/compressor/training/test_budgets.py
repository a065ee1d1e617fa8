"""Nested budgets: what a step draws, what it reads, and that a run says so in its adapters."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch

from compressor.errors import RecipeInvalid
from compressor.fwd2bot import adapter_folder
from compressor.fwd2bot.config import SummaryConfig
from compressor.fwd2bot.model import SummaryLvlm
from compressor.training import step as step_module
from compressor.training.config import TrainConfig
from compressor.training.packing import draw_budgets, nested_budgets
from compressor.training.trainer import train
from tests.compressor.training.samples import (
    Stream,
    all_equal,
    sample,
    stepped,
    tiny_lvlm,
    trained_parameters,
)

RECIPE = TrainConfig(
    steps=4,
    batch_size=2,
    questions_per_image=2,
    warmup_steps=2,
    save_every=2,
    workers=0,
)
NESTED = replace(RECIPE, budgets=(1, 4))
BATCH = [sample(number) for number in range(4)]


def test_the_whole_is_always_among_the_budgets() -> None:
    assert nested_budgets(NESTED, 8) == (1, 4, 8)
    assert nested_budgets(replace(RECIPE, budgets=(1, 8)), 8) == (1, 8)
    assert nested_budgets(RECIPE, 8) == ()
    with pytest.raises(RecipeInvalid, match="8 is more than the model's 4"):
        nested_budgets(replace(RECIPE, budgets=(2, 8)), 4)


def test_each_image_has_a_draw_of_its_own_and_all_budgets_come_alike_often() -> None:
    torch.manual_seed(0)
    images = 3000
    tokens = torch.arange(images * 16.0).reshape(images, 8, 2)
    drawn = draw_budgets(tokens, (1, 4, 8))
    for first_tokens, row in zip(drawn, tokens, strict=True):
        assert torch.equal(first_tokens, row[: len(first_tokens)])
    counts = Counter(map(len, drawn))
    assert set(counts) == {1, 4, 8}
    # Five standard deviations.
    assert all(abs(count - images / 3) < 130 for count in counts.values())


def test_without_budgets_nothing_is_drawn() -> None:
    """Runs of recipes that know none stay what they were, bit for bit."""
    before = torch.get_rng_state()
    drawn = draw_budgets(torch.zeros(3, 8, 2), ())
    assert [len(tokens) for tokens in drawn] == [8, 8, 8]
    assert torch.equal(torch.get_rng_state(), before)


def test_the_second_pass_reads_what_was_drawn_and_the_other_losses_read_all(
    model: SummaryLvlm, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = stepped(model, BATCH, RECIPE)
    torch.manual_seed(3)
    nested = stepped(model, BATCH, NESTED)
    torch.manual_seed(3)
    drawn = draw_budgets(torch.zeros(4, 8, 2), (1, 4, 8))
    sizes = [len(tokens) for tokens in drawn]
    assert len(set(sizes)) > 1

    images = [sample.images[0] for sample in BATCH]
    with torch.no_grad():
        first = model.first_pass(model.first_pass_inputs(images))
    cut = []
    for row, size in zip(first.tokens, sizes, strict=True):
        cut.append(row[:size])
    monkeypatch.setattr(step_module, "draw_budgets", lambda *_: cut)
    expected = stepped(model, BATCH, NESTED)
    torch.testing.assert_close(nested.autoregressive, expected.autoregressive)
    assert not torch.isclose(nested.autoregressive, whole.autoregressive)
    torch.testing.assert_close(nested.contrastive, whole.contrastive)


def test_tokens_beyond_the_draw_get_no_gradient_from_the_answers(
    model: SummaryLvlm, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []

    def first_three(tokens: torch.Tensor, _: object) -> list[torch.Tensor]:
        tokens.retain_grad()
        seen.append(tokens)
        return [row[:3] for row in tokens]

    monkeypatch.setattr(step_module, "draw_budgets", first_three)
    stepped(model, BATCH, NESTED).autoregressive.backward()
    gradient = seen[0].grad
    assert gradient is not None
    assert gradient[:, :3].abs().sum((0, 2)).all()
    assert not gradient[:, 3:].any()


def fresh() -> SummaryLvlm:
    model = tiny_lvlm()
    model.head.image_mean.fill_(0.1)  # has its statistics: the first sample trains
    return model


def test_a_resumed_run_makes_the_same_draws(tmp_path: Path) -> None:
    whole = fresh()
    list(train(whole, Stream(), NESTED, tmp_path / "whole"))
    cut_off = train(fresh(), Stream(), NESTED, tmp_path / "cut")
    list(islice(cut_off, 3))

    torch.manual_seed(99)
    resumed = fresh()
    logs = list(train(resumed, Stream(), NESTED, tmp_path / "cut"))
    assert [log.step for log in logs] == [2, 3]
    assert all_equal(trained_parameters(resumed), trained_parameters(whole))

    plain = fresh()
    list(train(plain, Stream(), RECIPE, tmp_path / "plain"))
    assert not all_equal(trained_parameters(plain), trained_parameters(whole))


def test_the_adapters_remember_the_budgets_of_the_last_run(tmp_path: Path) -> None:
    model = fresh()
    next(train(model, Stream(), NESTED, tmp_path / "run"))
    adapter_folder.save(model, tmp_path / "parts")
    assert SummaryConfig.load(tmp_path / "parts").budgets == (1, 4, 8)
    loaded = fresh()
    adapter_folder.load(loaded, tmp_path / "parts")
    assert loaded.config.budgets == (1, 4, 8)
    next(train(loaded, Stream(), RECIPE, tmp_path / "other"))
    adapter_folder.save(loaded, tmp_path / "parts")
    assert SummaryConfig.load(tmp_path / "parts").budgets == ()


def test_a_budget_beyond_the_models_tokens_is_refused_before_anything_is_done(
    tmp_path: Path,
) -> None:
    beyond = replace(RECIPE, budgets=(16,))
    with pytest.raises(RecipeInvalid, match="more than the model's 8"):
        next(train(fresh(), Stream(), beyond, tmp_path / "run"))
    assert not (tmp_path / "run").exists()
