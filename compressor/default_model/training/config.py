"""The default model's own training settings, beside the generic ones."""

from __future__ import annotations

from dataclasses import dataclass

from compressor.errors import RecipeInvalid
from compressor.fwd2bot.baselines import SUMMARY_TOKENS
from compressor.training.config import TrainConfig


@dataclass(frozen=True)
class DefaultTrainConfig(TrainConfig):
    """Settings of a run of the default model's passes."""

    # Of composed scenes: two different things, and how they lie to one another is asked.
    relation_share: float = 0.0
    max_cells: int = 24  # visual tokens of cells a step sees, drawn at random; 0 keeps all
    words_weight: float = 0.5  # of the word supervision

    def __post_init__(self) -> None:
        """Raises RecipeInvalid."""
        super().__post_init__()
        if self.relation_share > 1:
            raise RecipeInvalid("relation_share is a share, at most 1")
        if self.second_pass_input != SUMMARY_TOKENS and self.words_weight:
            raise RecipeInvalid(
                f"no first pass makes {self.second_pass_input}: words_weight must be 0"
            )
