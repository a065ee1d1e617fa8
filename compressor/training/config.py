"""Everything a training run depends on, read from a TOML recipe.

Unknown and contradicting fields are refused: a run that ignores what its author wrote is worse than
none.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    Strict,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.dataclasses import dataclass

from compressor.errors import RecipeInvalid
from compressor.fwd2bot.baselines import SUMMARY_TOKENS, Baseline
from compressor.fwd2bot.config import SummaryConfig, are_budgets

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

# Fields that the recipe shares with SummaryConfig.
ADAPTER_SETTINGS = (
    "token_count",
    "summary_prompt",
    "readout",
    "pooling",
    "embedding_size",
    "embedding_layers",
    "lora_rank",
    "lora_alpha",
    "target_modules",
    "adapters",
    "forward",
)

# What a run that is resumed may change.
_FREE = ("steps", "workers")

# TOML and JSON have lists where the settings have tuples; what is in them stays strict.
_Integers = Annotated[tuple[Annotated[int, Strict()], ...], Strict(False)]
_Names = Annotated[tuple[Annotated[str, Strict()], ...], Strict(False)]


class _RaisesRecipeInvalid(type):
    """Has every way to a recipe (constructor, `replace`, subclasses) raise RecipeInvalid alone."""

    def __call__(cls, *args: Any, **values: Any) -> Any:
        try:
            return super().__call__(*args, **values)
        except ValidationError as error:
            raise RecipeInvalid("; ".join(map(_one_line, error.errors()))) from error


def _one_line(error: Any) -> str:
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    name, *place = map(str, error["loc"])
    field = name + "".join(f"[{part}]" for part in place)
    message = str(error["msg"])
    return f"{field}: {message[0].lower()}{message[1:]}, not {error['input']!r}"


@dataclass(
    frozen=True, config=ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
)
class TrainConfig(metaclass=_RaisesRecipeInvalid):
    """Settings of one run. Raises RecipeInvalid."""

    seed: NonNegativeInt = 1
    steps: PositiveInt = 300
    # Images a step, over all processes.
    batch_size: PositiveInt = 16
    # Captioned images a step that come from a caption source of its own, beside `batch_size`; the
    # contrastive loss draws its negatives from them. 0: as many as `batch_size`.
    contrastive_batch_size: NonNegativeInt = 0
    # Images a process runs at a time, to save memory (GradCache); 0 runs all of its share at once.
    micro_batch_size: NonNegativeInt = 0
    # Of the forward passes. What is trained is kept in float32 whatever they run in; float16 would
    # need loss scaling, or small gradients would flush to zero.
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    # What the second pass is trained to read. A baseline gives its adapter the same budget.
    second_pass_input: str = SUMMARY_TOKENS
    # Images of the training data are cropped and mirrored at random, anew in every epoch.
    augment: bool = False
    questions_per_image: PositiveInt = (
        4  # conversations packed side by side in one second pass
    )
    max_tokens: NonNegativeInt = (
        0  # of a conversation; 0: what the model's context holds
    )
    # Learning rates rise over `warmup_steps` and fall along a cosine to a tenth.
    first_pass_lr: NonNegativeFloat = 1e-4  # 0 freezes the first pass: cheaper steps
    second_pass_lr: NonNegativeFloat = 4e-4
    head_lr: NonNegativeFloat = 5e-4  # summary tokens, readout, retrieval head
    # Of the base model's own `base_modules`, trained in full by `precis train base` alone; every
    # later run finds them frozen.
    base_lr: NonNegativeFloat = 0.0
    base_modules: _Names = ()
    warmup_steps: NonNegativeInt = 15
    weight_decay: NonNegativeFloat = 0.01  # of matrices alone
    max_grad_norm: NonNegativeFloat = 1.0
    autoregressive_weight: NonNegativeFloat = 1.0
    contrastive_weight: NonNegativeFloat = 0.3
    # Of the answers' divergence from those that the base model gives from all visual tokens.
    distillation_weight: NonNegativeFloat = 0.0
    # Pairs of earlier steps that are negatives too (cross-batch memory, arXiv 1912.06798): small
    # batches have few of their own.
    contrastive_queue: NonNegativeInt = 0
    # The contrastive loss collapses on longer captions (VladVA, arXiv 2412.04378).
    max_caption_tokens: PositiveInt = 30
    # Matryoshka-style (arXiv 2205.13147, M3 arXiv 2405.17430): of each image the second pass reads
    # the first m summary tokens, m drawn from these and K. Rising, at most K; empty: always all.
    budgets: _Integers = ()
    save_every: PositiveInt = 25  # steps between checkpoints
    eval_every: NonNegativeInt = (
        0  # steps between evaluations on held-out samples; 0: never
    )
    # Of the data, chosen by a hash of each image's name, so that no run ever trains on them.
    eval_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    eval_samples: PositiveInt = 64  # how many of them each evaluation measures
    workers: NonNegativeInt = 2  # processes that prepare samples for a training process
    fsdp: bool = False  # each process keeps a part of the frozen base model
    # Computes activations again in the backward pass: a third more work, a fraction of the memory.
    gradient_checkpointing: bool = False
    # Settings of new adapters (SummaryConfig). None: what the adapters have already, or the
    # default. Adapters that exist and disagree are refused.
    token_count: PositiveInt | None = None  # K
    summary_prompt: str | None = None
    readout: Literal["hidden", "soft_words"] | None = None
    pooling: Literal["mean", "last", "learned"] | None = None
    embedding_size: PositiveInt | None = None
    embedding_layers: _Integers | None = None
    lora_rank: PositiveInt | None = None
    lora_alpha: PositiveInt | None = None
    target_modules: _Names | None = None
    adapters: Literal["stage_specific", "shared", "none"] | None = None
    forward: Literal["double", "single"] | None = None

    @field_validator("dtype", mode="before")
    @classmethod
    def _refuse_float16(cls, dtype: object) -> object:
        if dtype == "float16":
            raise ValueError(
                "dtype float16 would need loss scaling: use bfloat16 or float32"
            )
        return dtype

    @field_validator("second_pass_input", mode="after")
    @classmethod
    def _check_input(cls, name: str) -> str:
        if name not in SECOND_PASS_INPUTS:
            names = ", ".join(SECOND_PASS_INPUTS)
            raise ValueError(f"second_pass_input must be one of {names}, not {name!r}")
        return str(name)

    @field_validator("budgets", mode="before")
    @classmethod
    def _check_budgets(cls, budgets: object) -> object:
        if not are_budgets(budgets):
            raise ValueError(
                f"budgets must be whole numbers that rise from at least 1, not {budgets!r}"
            )
        return budgets

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> Self:
        if not self.autoregressive_weight and not self.contrastive_weight:
            raise ValueError(
                "autoregressive_weight and contrastive_weight are 0: nothing to train"
            )
        if self.contrastive_weight and 1 in (
            self.batch_size,
            self.contrastive_batch_size,
        ):
            raise ValueError("a contrastive loss needs a batch_size of at least 2")
        if self.contrastive_batch_size and not self.contrastive_weight:
            raise ValueError(
                "contrastive_batch_size needs a contrastive_weight above 0"
            )
        if self.eval_every and not self.eval_share:
            raise ValueError(
                "eval_every needs an eval_share above 0 to hold samples out"
            )
        if self.contrastive_queue and not self.contrastive_weight:
            raise ValueError("contrastive_queue needs a contrastive_weight above 0")
        if self.embedding_layers == ():
            raise ValueError("embedding_layers must name at least one layer")
        if bool(self.base_lr) != bool(self.base_modules):
            raise ValueError("base_lr and base_modules need each other")
        if self.base_lr and self.second_pass_input != Baseline.ALL_VISUAL_TOKENS:
            raise ValueError(
                f'base_lr needs second_pass_input = "{Baseline.ALL_VISUAL_TOKENS}": the base model'
                " is tuned to answer from all that it sees"
            )
        if self.base_lr and self.adapters in ("shared", "none"):
            raise ValueError("base_lr trains the second pass's own adapter")
        if self.second_pass_input != SUMMARY_TOKENS:
            self._refuse_first_pass()
        return self

    def _refuse_first_pass(self) -> None:
        of_first_pass = (
            "first_pass_lr",
            "contrastive_weight",
            "distillation_weight",
            "budgets",
        )
        for name in of_first_pass:
            if getattr(self, name):
                raise ValueError(
                    f"no first pass makes {self.second_pass_input}: {name} must be 0 or empty"
                )
        if self.adapters == "none":
            raise ValueError(
                f"without adapters there is nothing to train on {self.second_pass_input}"
            )

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
        names = {field.name for field in fields(cls)}
        for name in _SWITCHED_OFF - names:
            if renamed.get(name) == 0:
                del renamed[name]
        unknown = set(renamed) - names
        if unknown:
            raise RecipeInvalid(f"unknown fields {', '.join(sorted(unknown))}")
        return cls(**renamed)

    def different_fields(self, other: TrainConfig) -> list[str]:
        """What keeps a run of the other from being resumed with these settings.

        Its length may change, and how many processes prepare samples changes nothing.
        """
        mine, theirs = dataclasses.asdict(self), dataclasses.asdict(other)
        return [
            name
            for name in mine
            if name not in _FREE and mine[name] != theirs.get(name)
        ]

    def summary_config(self, start: SummaryConfig) -> SummaryConfig:
        """`start` with the recipe's settings of new adapters. Raises RecipeInvalid."""
        try:
            return dataclasses.replace(start, **self._adapter_settings())
        except ValueError as error:
            raise RecipeInvalid(str(error)) from error

    def check_adapters(self, existing: SummaryConfig) -> None:
        """Raises RecipeInvalid where the recipe asks for other adapters than those that exist."""
        for name, value in self._adapter_settings().items():
            actual = getattr(existing, name)
            if actual != value:
                raise RecipeInvalid(
                    f"{name} is {value}, but the adapters have {actual}"
                )

    def _adapter_settings(self) -> dict[str, Any]:
        values = {name: getattr(self, name) for name in ADAPTER_SETTINGS}
        return {name: value for name, value in values.items() if value is not None}
