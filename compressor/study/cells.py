"""The cells of the ablation study of Fwd2Bot: the reference, and one choice changed in each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from compressor.errors import RecipeInvalid
from compressor.fwd2bot.baselines import Baseline
from compressor.training.config import TrainConfig

# What the reference decides, and no recipe may.
REFERENCE: Mapping[str, Any] = {
    "token_count": 8,
    "summary_prompt": "Summarize the image in a few words.",
    "readout": "hidden",
    "pooling": "mean",
    "adapters": "stage_specific",
    "forward": "double",
}
# What some cells cannot be trained with; without it in one cell, cells would differ in it too.
_NOT_IN_ALL_CELLS = (
    "second_pass_input",
    "budgets",
    "contrastive_batch_size",
    "fsdp",
    "gradient_checkpointing",
    "base_lr",
)


@dataclass(frozen=True)
class Cell:
    """A way to train, and the part of the table that it belongs to."""

    name: str  # of its runs' folders
    title: str
    group: str
    changes: Mapping[str, Any] = field(default_factory=dict)  # to the reference

    def config(self, recipe: TrainConfig, seed: int) -> TrainConfig:
        """The recipe with the reference's choices and this cell's changes.

        Raises RecipeInvalid for a recipe that decides what the study compares.
        """
        plain = TrainConfig()
        decided = [
            name
            for name in (*REFERENCE, *_NOT_IN_ALL_CELLS)
            if getattr(recipe, name) != getattr(plain, name)
        ]
        if decided:
            raise RecipeInvalid(
                f"the recipe of a study leaves out {', '.join(decided)}: its cells decide them"
            )
        if not recipe.autoregressive_weight or not recipe.contrastive_weight:
            raise RecipeInvalid("the recipe of a study has both losses")
        return replace(recipe, **{**REFERENCE, **self.changes, "seed": seed})


_NO_CONTRASTIVE: Mapping[str, Any] = {"contrastive_weight": 0.0, "contrastive_queue": 0}
_NO_ANSWERS: Mapping[str, Any] = {
    "autoregressive_weight": 0.0,
    "distillation_weight": 0.0,
}


def _baseline(name: str, baseline: Baseline) -> Cell:
    """An adapter of the same rank, trained as long to answer from what the baseline gives."""
    changes = {
        "second_pass_input": baseline.value,
        "first_pass_lr": 0.0,
        "distillation_weight": 0.0,
        **_NO_CONTRASTIVE,
    }
    return Cell(name, baseline.value, "baseline", changes)


CELLS = (
    Cell("reference", "Fwd2Bot", "reference"),
    Cell("single-forward", "single forward", "forward", {"forward": "single"}),
    Cell(
        "single-forward-shared",
        "single forward, one shared adapter",
        "forward",
        {"forward": "single", "adapters": "shared"},
    ),
    Cell("answers-only", "autoregressive only", "losses", _NO_CONTRASTIVE),
    Cell("contrastive-only", "contrastive only", "losses", _NO_ANSWERS),
    Cell("shared-adapter", "one shared adapter", "adapters", {"adapters": "shared"}),
    Cell("no-adapters", "no adapters", "adapters", {"adapters": "none"}),
    Cell("k-4", "K = 4", "tokens", {"token_count": 4}),
    Cell("k-16", "K = 16", "tokens", {"token_count": 16}),
    Cell("no-prompt", "no summary prompt", "prompt", {"summary_prompt": ""}),
    Cell("last-token", "last summary token", "embedding", {"pooling": "last"}),
    _baseline("all-visual-tokens", Baseline.ALL_VISUAL_TOKENS),
    _baseline("mean-pooling", Baseline.MEAN_POOLING),
    _baseline("mean-pooled-states", Baseline.MEAN_POOLED_STATES),
    _baseline("downsampled-image", Baseline.DOWNSAMPLED_IMAGE),
    _baseline("words-as-text", Baseline.WORDS_AS_TEXT),
)
