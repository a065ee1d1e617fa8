"""A training recipe: every number a run depends on, read from a TOML file.

Knows nothing of models. Unknown and contradicting fields are refused.
"""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path

from compressor.errors import RecipeInvalid
from compressor.fwd2bot.baselines import BASELINES, SUMMARY
from compressor.fwd2bot.config import are_budgets


@dataclass(frozen=True)
class Recipe:
    """Settings of one run; the defaults are the default model's."""

    seed: int = 1
    steps: int = 300
    batch_size: int = 16  # images a step; negatives of the contrastive loss come from the batch
    micro_batch_size: int = (
        0  # images a process looks at at a time, to save memory (GradCache); 0 takes all at once
    )
    # what the second pass is trained to read: a baseline, to be measured with the same budget
    reads: str = SUMMARY
    questions_per_image: int = 4  # of one image, side by side in one second pass
    relation_share: float = (
        0.0  # of composed scenes: two different things, asked how they lie to one another
    )
    cells_kept: int = (
        24  # visual tokens of cells that a training step sees, drawn at random; 0 keeps all
    )
    # Learning rates rise over `warmup_steps` and fall along a cosine to a tenth.
    first_pass_rate: float = (
        1e-4  # 0 freezes the first pass: cheaper steps, for the second pass to learn to read first
    )
    second_pass_rate: float = 4e-4
    head_rate: float = 5e-4  # summary tokens, readout, retrieval head
    warmup_steps: int = 15
    weight_decay: float = 0.01
    most_gradient: float = 1.0  # norm that gradients are clipped to
    # Weights of the losses; the autoregressive loss has weight 1.
    contrastive_weight: float = 0.3
    words_weight: float = (
        0.5  # cross entropy of the summary positions against words known of the image
    )
    longest_caption_tokens: int = (
        30  # longer captions make the contrastive loss collapse (VladVA, arXiv 2412.04378)
    )
    # Matryoshka-style (arXiv 2205.13147, M3 arXiv 2405.17430): of each image the second pass reads
    # the first m summary tokens, m drawn from these and K. Rising, at most K; empty: always all.
    budgets: tuple[int, ...] = ()
    checkpoint_every_steps: int = 25
    shard_base: bool = (
        False  # each of several processes keeps a part of the frozen base model (FSDP)
    )
    recompute: bool = (
        False  # activations in the backward pass: a third more work, a fraction of the memory
    )

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "budgets":
                if not are_budgets(value):
                    raise RecipeInvalid(
                        f"budgets must be whole numbers that rise from at least 1, not {value!r}"
                    )
                object.__setattr__(self, "budgets", tuple(value))  # TOML and JSON have lists
                continue
            if field.name == "reads":
                if value not in (SUMMARY, *BASELINES):
                    raise RecipeInvalid(
                        f"reads must be one of {', '.join((SUMMARY, *BASELINES))}, not {value!r}"
                    )
                continue
            if field.type == "bool":
                if not isinstance(value, bool):
                    raise RecipeInvalid(f"{field.name} must be true or false, not {value!r}")
                continue
            whole = field.type == "int"
            if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
                raise RecipeInvalid(
                    f"{field.name} must be a {'whole ' if whole else ''}number, not {value!r}"
                )
            if value < 0 or not math.isfinite(value):
                raise RecipeInvalid(f"{field.name} must be finite and not negative")
        if self.relation_share > 1:
            raise RecipeInvalid("relation_share is a share, at most 1")
        if self.batch_size < 2 and self.contrastive_weight:
            raise RecipeInvalid("a contrastive loss needs a batch_size of at least 2")
        if self.reads != SUMMARY and (
            self.first_pass_rate or self.contrastive_weight or self.words_weight or self.budgets
        ):
            raise RecipeInvalid(
                f"{self.reads} are made by no first pass: its rate, contrastive_weight and words_weight are 0"
            )
        if (
            min(self.steps, self.batch_size, self.questions_per_image, self.checkpoint_every_steps)
            < 1
        ):
            raise RecipeInvalid(
                "steps, batch_size, questions_per_image and checkpoint_every_steps start at 1"
            )

    @classmethod
    def read(cls, path: Path) -> Recipe:
        """Reads a TOML file. Raises RecipeInvalid."""
        try:
            values = tomllib.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise RecipeInvalid(f"{path}: {error}") from error
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            raise RecipeInvalid(f"{path}: unknown fields {', '.join(unknown)}")
        return cls(**values)
