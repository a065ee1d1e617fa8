"""What summary tokens are measured against: other ways to give the second pass an image in few
tokens, or in all.

Knows nothing of figures or training. Shapes: V visual tokens, K summary tokens, D hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from compressor.fwd2bot.model import SummaryLvlm

SUMMARY = "summary tokens"
BASELINES = ("all visual tokens", "mean pooling", "downsampled image")
_PATCH_PX = 32  # a cell of the default model's tower; a downsampled image has K of them


def baseline_tokens(
    lvlm: SummaryLvlm, images: Sequence[Image.Image], baseline: str
) -> list[Tensor]:
    """Of each image (V, D), or for the two that compress (K, D); `baseline` is one of BASELINES."""
    count = lvlm.config.token_count
    if (
        baseline == "downsampled image"
    ):  # as many patches as there are summary tokens, and pooled to as many
        side = round(count**0.5 * _PATCH_PX)
        images = [image.resize((side, side), Image.Resampling.BOX) for image in images]
    vectors = lvlm.visual_vectors(images)
    return vectors if baseline == "all visual tokens" else [pool(each, count) for each in vectors]


def pool(vectors: Tensor, count: int) -> Tensor:
    """(V, D) → (count, D): means of `count` runs of neighbours, in order."""
    return torch.nn.functional.adaptive_avg_pool1d(vectors.T.unsqueeze(0), count)[0].T
