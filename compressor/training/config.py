"""Everything a training run depends on, read from a TOML recipe.

Unknown and contradicting fields are refused: a run that ignores what its author wrote is worse than
none.
"""

from __future__ import annotations

import dataclasses
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

from compressor.errors import RecipeInvalid
from compressor.fwd2bot.baselines import SUMMARY_TOKENS, Baseline
from compressor.fwd2bot.config import are_budgets

SECOND_PASS_INPUTS = (SUMMARY_TOKENS, *Baseline)

# Recipes and the provenance of adapters written before the fields had the field's names. Accepted
# for one release.
OLD_NAMES = {
    "cells_kept": "max_cells",
    "most_gradient": "max_grad_norm",
    "first_pass_rate": "first_pass_lr",
    "second_pass_rate": "second_pass_lr",
    "head_rate": "head_lr",
    "longest_caption_tokens": "max_caption_tokens",
    "recompute": "gradient_checkpointing",
    "reads": "second_pass_input",
    "shard_base": "fsdp",
    "checkpoint_every_steps": "save_every",
}
# Fields of the default model that the first release made every recipe of an LVLM switch off.
_SWITCHED_OFF = frozenset({"max_cells", "words_weight", "relation_share"})


@dataclass(frozen=True)
class TrainConfig:
    """Settings of one run."""

    seed: int = 1
    steps: int = 300
    # Images a step, over all processes. The contrastive loss draws its negatives from the batch.
    batch_size: int = 16
    # Images a process runs at a time, to save memory (GradCache); 0 runs all of its share at once.
    micro_batch_size: int = 0
    # What the second pass is trained to read. A baseline gives its adapter the same budget.
    second_pass_input: str = SUMMARY_TOKENS
    questions_per_image: int = 4  # packed side by side in one second pass
    # Learning rates rise over `warmup_steps` and fall along a cosine to a tenth.
    first_pass_lr: float = 1e-4  # 0 freezes the first pass: cheaper steps
    second_pass_lr: float = 4e-4
    head_lr: float = 5e-4  # summary tokens, readout, retrieval head
    warmup_steps: int = 15
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    contrastive_weight: float = 0.3  # the autoregressive loss has weight 1
    # The contrastive loss collapses on longer captions (VladVA, arXiv 2412.04378).
    max_caption_tokens: int = 30
    # Matryoshka-style (arXiv 2205.13147, M3 arXiv 2405.17430): of each image the second pass reads
    # the first m summary tokens, m drawn from these and K. Rising, at most K; empty: always all.
    budgets: tuple[int, ...] = ()
    save_every: int = 25  # steps between checkpoints
    fsdp: bool = False  # each process keeps a part of the frozen base model
    # Computes activations again in the backward pass: a third more work, a fraction of the memory.
    gradient_checkpointing: bool = False

    def __post_init__(self) -> None:
        """Raises RecipeInvalid."""
        object.__setattr__(self, "budgets", self._checked_budgets())
        if self.second_pass_input not in SECOND_PASS_INPUTS:
            raise RecipeInvalid(
                f"second_pass_input must be one of {', '.join(SECOND_PASS_INPUTS)}, "
                f"not {self.second_pass_input!r}"
            )
        for field in fields(self):
            if field.type in ("bool", "int", "float"):
                _check_number(field.name, str(field.type), getattr(self, field.name))
        for name in ("steps", "batch_size", "questions_per_image", "save_every"):
            if getattr(self, name) < 1:
                raise RecipeInvalid(f"{name} must be at least 1")
        if self.batch_size < 2 and self.contrastive_weight:
            raise RecipeInvalid("a contrastive loss needs a batch_size of at least 2")
        if self.second_pass_input != SUMMARY_TOKENS:
            self._check_baseline()

    def _check_baseline(self) -> None:
        for name in ("first_pass_lr", "contrastive_weight", "budgets"):
            if getattr(self, name):
                raise RecipeInvalid(
                    f"no first pass makes {self.second_pass_input}: {name} must be 0 or empty"
                )

    def _checked_budgets(self) -> tuple[int, ...]:
        if not are_budgets(self.budgets):
            raise RecipeInvalid(
                f"budgets must be whole numbers that rise from at least 1, not {self.budgets!r}"
            )
        return tuple(self.budgets)  # TOML and JSON have lists

    @classmethod
    def read(cls, path: Path) -> Self:
        """Reads a TOML recipe. Raises RecipeInvalid."""
        try:
            values = tomllib.loads(path.read_text())
            return cls.from_values(values)
        except (OSError, ValueError) as error:
            raise RecipeInvalid(f"{path}: {error}") from error

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Self:
        """Settings from a recipe's or a checkpoint's fields, old names included.

        A field that is missing has its default. Raises RecipeInvalid.
        """
        if not isinstance(values, Mapping):
            raise RecipeInvalid(f"a recipe is a table of fields, not {values!r}")
        renamed = {OLD_NAMES.get(name, name): value for name, value in values.items()}
        if len(renamed) < len(values):
            raise RecipeInvalid("a field is set under its old and its new name")
        known = {field.name for field in fields(cls)}
        for name in _SWITCHED_OFF - known:
            if renamed.get(name) == 0:
                del renamed[name]
        unknown = set(renamed) - known
        if unknown:
            raise RecipeInvalid(f"unknown fields {', '.join(sorted(unknown))}")
        return cls(**renamed)

    def same_but_for_steps(self, other: TrainConfig) -> bool:
        """Whether a run of the other may be resumed with these: only its length may change."""
        return dataclasses.replace(self, steps=1) == dataclasses.replace(other, steps=1)


def _check_number(name: str, kind: str, value: object) -> None:
    if kind == "bool":
        if not isinstance(value, bool):
            raise RecipeInvalid(f"{name} must be true or false, not {value!r}")
        return
    allowed = int if kind == "int" else (int, float)
    if isinstance(value, bool) or not isinstance(value, allowed):
        kind_name = "whole number" if kind == "int" else "number"
        raise RecipeInvalid(f"{name} must be a {kind_name}, not {value!r}")
    if value < 0 or not math.isfinite(value):
        raise RecipeInvalid(f"{name} must be finite and not negative")
