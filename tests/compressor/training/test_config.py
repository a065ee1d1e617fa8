"""Recipes: defaults, refusals, and the names that fields had in the first release."""

from __future__ import annotations

from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest

from compressor.errors import RecipeInvalid
from compressor.fwd2bot.config import SummaryConfig
from compressor.training.config import ADAPTER_SETTINGS, TrainConfig


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
        ("steps = 1.5", "steps: input should be a valid integer, not 1.5"),
        ('steps = "3"', "steps: input should be a valid integer"),
        ("steps = true", "steps: input should be a valid integer"),
        ("head_lr = []", "head_lr: input should be a valid number"),
        ("head_lr = -1e-4", "head_lr: input should be greater than or equal to 0"),
        ("head_lr = nan", "head_lr: input should be a finite number"),
        ("weight_decay = inf", "weight_decay: input should be a finite number"),
        ("steps = 0", "steps: input should be greater than 0"),
        ("save_every = 0", "save_every: input should be greater than 0"),
        ("fsdp = 1", "fsdp: input should be a valid boolean"),
        ("steps = 0\nsave_every = 0", "steps: .*; save_every: "),
        ("batch_size = 1", "batch_size of at least 2"),
        ("contrastive_batch_size = 1", "batch_size of at least 2"),
        (
            "contrastive_weight = 0\ncontrastive_batch_size = 8",
            "needs a contrastive_weight above 0",
        ),
        ("contrastive_weight = 0\nautoregressive_weight = 0", "nothing to train"),
        ('dtype = "float16"', "float16 would need loss scaling"),
        (
            'dtype = "int8"',
            "dtype: input should be 'auto', 'bfloat16' or 'float32', not 'int8'",
        ),
        ("eval_every = 5", "eval_every needs an eval_share"),
        ("eval_share = 1", "eval_share: input should be less than 1"),
        ("embedding_layers = []", "at least one layer"),
        (
            "embedding_layers = [1.5]",
            r"embedding_layers\[0\]: input should be a valid integer",
        ),
        ('target_modules = "q_proj"', "target_modules: input should be a valid tuple"),
        (
            "target_modules = [3]",
            r"target_modules\[0\]: input should be a valid string",
        ),
        ('pooling = "max"', "pooling: input should be 'mean', 'last' or 'learned'"),
        ('readout = "words"', "readout: input should be 'hidden' or 'soft_words'"),
        (
            'adapters = "three"',
            "adapters: input should be 'stage_specific', 'shared' or 'none'",
        ),
        (
            'adapters = "none"\nreads = "mean pooling"\nfirst_pass_lr = 0\n'
            "contrastive_weight = 0",
            "without adapters there is nothing to train on mean pooling",
        ),
        ("lora_rank = 0", "lora_rank: input should be greater than 0"),
        (
            'reads = "pixels"',
            "second_pass_input must be one of summary tokens, all visual tokens",
        ),
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
def test_unknown_and_contradicting_fields_are_refused(
    tmp_path: Path, text: str, said: str
) -> None:
    with pytest.raises(RecipeInvalid, match=said) as refused:
        read(tmp_path, text)
    assert "\n" not in str(refused.value)


def test_every_way_to_a_recipe_raises_the_same_error() -> None:
    with pytest.raises(RecipeInvalid, match="steps: input should be greater than 0"):
        TrainConfig(steps=0)
    with pytest.raises(RecipeInvalid, match="steps: input should be greater than 0"):
        replace(TrainConfig(), steps=0)
    with pytest.raises(RecipeInvalid, match="stepps: unexpected keyword argument"):
        TrainConfig(**{"stepps": 3})
    with pytest.raises(RecipeInvalid, match="unknown fields stepps"):
        TrainConfig.from_values({"stepps": 3})


def test_one_image_a_step_is_enough_without_a_contrastive_loss(tmp_path: Path) -> None:
    assert read(tmp_path, "batch_size = 1\ncontrastive_weight = 0").batch_size == 1


def test_a_recipe_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeInvalid, match="nowhere"):
        TrainConfig.read(tmp_path / "nowhere.toml")


def test_every_field_is_documented() -> None:
    page = (Path(__file__).parents[3] / "docs" / "training.md").read_text()
    assert [
        field.name for field in fields(TrainConfig) if f"`{field.name}`" not in page
    ] == []


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


def test_settings_of_adapters_are_stored_and_existing_ones_must_agree() -> None:
    asked = {
        "token_count": 4,
        "lora_rank": 2,
        "embedding_layers": [1, -1],
        "readout": "soft_words",
    }
    config = TrainConfig.from_values(asked)
    settings = config.summary_config(SummaryConfig("base", embedding_size=32))
    assert (settings.token_count, settings.lora_rank, settings.embedding_size) == (
        4,
        2,
        32,
    )
    assert settings.embedding_layers == (1, -1)
    config.check_adapters(settings)
    TrainConfig().check_adapters(settings)
    with pytest.raises(RecipeInvalid, match="lora_rank is 2, but the adapters have 16"):
        config.check_adapters(replace(settings, lora_rank=16))


def test_settings_of_adapters_are_fields_of_both() -> None:
    names = {field.name for field in fields(SummaryConfig)}
    assert names >= set(ADAPTER_SETTINGS)
    assert set(asdict(TrainConfig())) >= set(ADAPTER_SETTINGS)
