"""The cells differ in what they are about, and recipes that decide it are refused."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from compressor.errors import RecipeInvalid
from compressor.fwd2bot.baselines import Baseline
from compressor.fwd2bot.config import SummaryConfig
from compressor.study.cells import CELLS, REFERENCE
from compressor.training.config import TrainConfig

ROOT = Path(__file__).parents[3]
RECIPES = sorted((ROOT / "compressor" / "default_model" / "recipes").glob("ablation*"))
RECIPE = TrainConfig(contrastive_queue=8, distillation_weight=0.5)


def test_names_are_unique_and_the_reference_is_the_first() -> None:
    names = [cell.name for cell in CELLS]
    assert len(set(names)) == len(names)
    assert (names[0], CELLS[0].changes) == ("reference", {})


def test_every_baseline_has_a_cell() -> None:
    inputs = {cell.config(RECIPE, 1).second_pass_input for cell in CELLS}
    assert inputs == {"summary tokens", *Baseline}


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
def test_a_cell_changes_what_it_names_and_nothing_else(cell: Any) -> None:
    reference = asdict(CELLS[0].config(RECIPE, 1))
    own = asdict(cell.config(RECIPE, 1))
    changed = {name: own[name] for name in own if own[name] != reference[name]}
    assert changed == dict(cell.changes)
    assert own | {"seed": 2} == asdict(cell.config(RECIPE, 2))
    # The settings of new adapters make sense.
    TrainConfig(**own).summary_config(SummaryConfig("base"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_recipes_fit_every_cell(path: Path) -> None:
    recipe = TrainConfig.read(path)
    for cell in CELLS:
        cell.config(recipe, 1)
    assert len(RECIPES) == 2


@pytest.mark.parametrize(
    "decided",
    [
        *({name: value} for name, value in REFERENCE.items()),
        {"budgets": (2,)},
        {"fsdp": True},
        {"gradient_checkpointing": True},
        {"contrastive_batch_size": 4},
    ],
    ids=lambda decided: next(iter(decided)),
)
def test_a_recipe_cannot_decide_what_cells_compare(decided: dict[str, Any]) -> None:
    recipe = TrainConfig(**decided)
    with pytest.raises(RecipeInvalid, match=next(iter(decided))):
        CELLS[0].config(recipe, 1)


@pytest.mark.parametrize("weight", ["autoregressive_weight", "contrastive_weight"])
def test_a_study_has_both_losses(weight: str) -> None:
    with pytest.raises(RecipeInvalid, match="both losses"):
        CELLS[0].config(TrainConfig(**{weight: 0.0}), 1)
