"""The default model's own training settings, beside the generic ones."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, model_validator
from pydantic.dataclasses import dataclass

from compressor.fwd2bot.baselines import SUMMARY_TOKENS
from compressor.training.config import TrainConfig


@dataclass(frozen=True)
class DefaultTrainConfig(TrainConfig):
    """Settings of a run of the default model's passes. Raises RecipeInvalid."""

    # Of composed scenes: two different things, and how they lie to one another is asked.
    relation_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    # Visual tokens of cells a step sees, drawn at random; 0 keeps all.
    max_cells: NonNegativeInt = 24
    words_weight: NonNegativeFloat = 0.5  # of the word supervision

    @model_validator(mode="after")
    def _refuse_words_without_first_pass(self) -> Self:
        if self.second_pass_input != SUMMARY_TOKENS and self.words_weight:
            raise ValueError(
                f"no first pass makes {self.second_pass_input}: words_weight must be 0"
            )
        return self
