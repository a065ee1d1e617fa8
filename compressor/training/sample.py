"""A training sample: an image, what is asked about it, and a caption."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import Image, ImageOps

from compressor.errors import DataInvalid


@dataclass(frozen=True)
class QA:
    """A question and its answer."""

    question: str
    answer: str
    kind: str  # a key of KINDS, or of `photos`


@dataclass(frozen=True)
class Sample:
    """One training sample."""

    image: Image.Image  # RGB
    questions: tuple[QA, ...]  # at least one
    caption: str  # short, for the contrastive loss; empty where there is none
    source: str
    origin: object | None = (
        None  # whatever the source keeps for itself; the training step never looks inside
    )


@lru_cache(maxsize=8)
def shuffled(count: int, seed: str) -> list[int]:
    """The numbers below `count` in an order that depends on the seed alone; kept, for every sample
    of an epoch asks.
    """
    order = list(range(count))
    random.Random(seed).shuffle(order)
    return order


def opened(path: Path) -> Image.Image:
    """The picture in a file as RGB, the right way up. Raises DataInvalid."""
    try:
        with Image.open(path) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, Image.DecompressionBombError) as error:
        raise DataInvalid(f"{path}: {error}") from error
