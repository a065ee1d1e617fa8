"""What the second pass may read of an image: its summary tokens, or what they are measured against.

Knows nothing of figures. All sources share the language model and its second-pass adapter, which reads best what it was
trained on: a recipe's `reads`. Shapes: V visual tokens, K summary tokens, D hidden size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from compressor.baselines import BASELINES, SUMMARY, baseline_tokens
from compressor.lvlm import SummaryLvlm
from compressor.ports import SummaryModel

Tokens = Callable[[Sequence[Image.Image]], Sequence[NDArray[np.float32]]]  # of each image, (any number, D)


def sources(model: SummaryModel, lvlm: SummaryLvlm) -> Mapping[str, Tokens]:
    """Name and tokens of each source."""

    def baseline(images: Sequence[Image.Image], name: str) -> list[NDArray[np.float32]]:
        with torch.inference_mode():
            return [vectors.float().cpu().numpy() for vectors in baseline_tokens(lvlm, images, name)]

    return {
        SUMMARY: lambda images: list(model.compress(images).tokens),
        **{name: partial(baseline, name=name) for name in BASELINES},
    }
