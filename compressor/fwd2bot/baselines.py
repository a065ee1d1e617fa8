"""What summary tokens are measured against: other ways to give the second pass an image.

Shapes: V visual tokens, K summary tokens, D hidden size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum

import torch
from PIL import Image
from torch import Tensor

from compressor.fwd2bot.model import SummaryLvlm

SUMMARY_TOKENS = "summary tokens"  # what the baselines are measured against
_PATCH_PX = 32


class Baseline(StrEnum):
    """The name of a baseline, as recipes and `precis eval` have it."""

    ALL_VISUAL_TOKENS = "all visual tokens"
    MEAN_POOLING = "mean pooling"
    DOWNSAMPLED_IMAGE = "downsampled image"


def all_visual_tokens(model: SummaryLvlm, images: Sequence[Image.Image]) -> list[Tensor]:
    """(V, D) of each image: the uncompressed ceiling."""
    return model.visual_vectors(images)


def mean_pooling(model: SummaryLvlm, images: Sequence[Image.Image]) -> list[Tensor]:
    """(K, D) of each image: means of K runs of neighbouring visual tokens."""
    return [pool(vectors, model.config.token_count) for vectors in model.visual_vectors(images)]


def downsampled_image(model: SummaryLvlm, images: Sequence[Image.Image]) -> list[Tensor]:
    """(K, D) of each image, resized to about K patches first."""
    side_px = round(model.config.token_count**0.5 * _PATCH_PX)
    small = [image.resize((side_px, side_px), Image.Resampling.BOX) for image in images]
    return mean_pooling(model, small)


VisualInput = Callable[[SummaryLvlm, Sequence[Image.Image]], list[Tensor]]
BASELINES: Mapping[Baseline, VisualInput] = {
    Baseline.ALL_VISUAL_TOKENS: all_visual_tokens,
    Baseline.MEAN_POOLING: mean_pooling,
    Baseline.DOWNSAMPLED_IMAGE: downsampled_image,
}


def pool(vectors: Tensor, count: int) -> Tensor:
    """(V, D) → (count, D): means of `count` runs of neighbours, in order."""
    return torch.nn.functional.adaptive_avg_pool1d(vectors.T.unsqueeze(0), count)[0].T
