"""What the second pass may read of an image: its summary tokens, or what they are measured against.

Knows nothing of figures. All sources share the language model and its second-pass adapter, which was trained on summary
tokens. Shapes: V visual tokens, K summary tokens, D hidden size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from compressor.lvlm import SummaryLvlm
from compressor.ports import SummaryModel

Tokens = Callable[[Sequence[Image.Image]], Sequence[NDArray[np.float32]]]  # of each image, (any number, D)
SUMMARY = "summary tokens"
BASELINES = ("all visual tokens", "mean pooling", "downsampled image")
_PATCH_PX = 32  # a cell of the default model's tower; a downsampled image has K of them


def sources(model: SummaryModel, lvlm: SummaryLvlm) -> Mapping[str, Tokens]:
    """Name and tokens of each source."""
    count = lvlm.config.token_count

    def visual(images: Sequence[Image.Image]) -> list[NDArray[np.float32]]:
        with torch.inference_mode():
            return [vectors.float().cpu().numpy() for vectors in lvlm.visual_vectors(images)]

    def pooled(images: Sequence[Image.Image]) -> list[NDArray[np.float32]]:
        return [pool(vectors, count) for vectors in visual(images)]

    def downsampled(images: Sequence[Image.Image]) -> list[NDArray[np.float32]]:
        side = round(count**0.5 * _PATCH_PX)
        return pooled([image.resize((side, side), Image.Resampling.BOX) for image in images])

    return {
        SUMMARY: lambda images: list(model.compress(images).tokens),
        # A downsampled image has as many patches as there are summary tokens, and is pooled to as many.
        **dict(zip(BASELINES, (visual, pooled, downsampled), strict=True)),
    }


def pool(vectors: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """(V, D) → (count, D): means of `count` runs of neighbours, in order."""
    found: NDArray[np.float32] = torch.nn.functional.adaptive_avg_pool1d(
        torch.from_numpy(vectors).T.unsqueeze(0), count
    )[0].T.numpy()
    return found
