"""Recipes: defaults, refusals, and the names that fields had in the first release."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from compressor.errors import RecipeInvalid
from compressor.training.config import TrainConfig


def read(tmp_path: Path, text: str) -> TrainConfig:
    (tmp_path / "recipe.toml").write_text(text)
    return TrainConfig.read(tmp_path / "recipe.toml")


def test_what_a_recipe_leaves_out_has_its_default(tmp_path: Path) -> None:
    assert read(tmp_path, "") == TrainConfig()
    recipe = read(tmp_path, "steps = 7\nhead_lr = 1\n")
    assert (recipe.steps, recipe.head_lr) == (7, 1)
    assert recipe.batch_size == TrainConfig().batch_size


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("stepps = 3", "unknown fields stepps"),
        ("steps = 3\nsteps = 4", "recipe.toml"),
        ("steps =", "recipe.toml"),
        ("steps = 1.5", "steps must be a whole number"),
        ('steps = "3"', "steps must be a whole number"),
        ("steps = true", "steps must be a whole number"),
        ("head_lr = []", "head_lr must be a number"),
        ("head_lr = -1e-4", "head_lr must be finite and not negative"),
        ("head_lr = nan", "head_lr must be finite"),
        ("weight_decay = inf", "weight_decay must be finite"),
        ("steps = 0", "must be at least 1"),
        ("save_every = 0", "must be at least 1"),
        ("batch_size = 1", "batch_size of at least 2"),
        ('reads = "pixels"', "second_pass_input must be one of summary tokens, all visual tokens"),
        ('reads = "mean pooling"', "no first pass makes mean pooling"),
        ("budgets = 4", "budgets must be whole numbers"),
        ("budgets = [4, 2]", "budgets must be whole numbers that rise"),
        ("budgets = [2, 2]", "budgets must be whole numbers that rise"),
        ("budgets = [0, 2]", "rise from at least 1"),
        ("budgets = [1.5]", "budgets must be whole numbers"),
        ("budgets = [true]", "budgets must be whole numbers"),
        ('budgets = "24"', "budgets must be whole numbers"),
        ("budgets = 0", "budgets must be whole numbers"),
    ],
)
def test_unknown_and_contradicting_fields_are_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(RecipeInvalid, match=said):
        read(tmp_path, text)


def test_one_image_a_step_is_enough_without_a_contrastive_loss(tmp_path: Path) -> None:
    assert read(tmp_path, "batch_size = 1\ncontrastive_weight = 0").batch_size == 1


def test_a_recipe_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeInvalid, match="nowhere"):
        TrainConfig.read(tmp_path / "nowhere.toml")


def test_every_field_is_documented() -> None:
    page = (Path(__file__).parents[3] / "docs" / "training.md").read_text()
    assert [field.name for field in fields(TrainConfig) if f"`{field.name}`" not in page] == []


def test_names_of_the_first_release_are_accepted(tmp_path: Path) -> None:
    old = read(
        tmp_path,
        "head_rate = 1\nreads = 'mean pooling'\nfirst_pass_rate = 0\n"
        "contrastive_weight = 0\nwords_weight = 0.0\ncells_kept = 0\nshard_base = true\n",
    )
    assert (old.head_lr, old.second_pass_input, old.fsdp) == (1, "mean pooling", True)
    with pytest.raises(RecipeInvalid, match="unknown fields words_weight"):
        read(tmp_path, "words_weight = 0.5")
    with pytest.raises(RecipeInvalid, match="old and its new name"):
        read(tmp_path, "head_rate = 1\nhead_lr = 1")


def test_budgets_may_be_empty_or_rise(tmp_path: Path) -> None:
    assert read(tmp_path, "budgets = []") == TrainConfig()
    assert read(tmp_path, "budgets = [1, 2, 8]").budgets == (1, 2, 8)
