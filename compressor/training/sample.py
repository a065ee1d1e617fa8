"""A training sample: images, what is asked about them, and a caption."""

from __future__ import annotations

import io
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
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
    """One training sample: it has questions, a dialogue or a caption, or several of these."""

    images: tuple[Image.Image, ...]  # RGB; mostly one
    questions: tuple[QA, ...]  # independent of one another
    # Short, of the one image, for the contrastive loss; empty where there is none.
    caption: str
    source: str
    origin: object | None = (
        None  # the source's own; the training step never looks inside
    )
    dialogue: tuple[
        QA, ...
    ] = ()  # turns of one conversation, each read with those before it
    # What the model reads beside the processor's inputs, by the name of its argument.
    model_inputs: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    # Why samples that should have stood in this one's place cannot be read.
    broken: tuple[str, ...] = ()

    @property
    def conversations(self) -> tuple[tuple[QA, ...], ...]:
        """The turns of each conversation about the images; an independent question is one turn."""
        questions = tuple((question,) for question in self.questions)
        return (self.dialogue, *questions) if self.dialogue else questions


@lru_cache(maxsize=8)
def shuffled(count: int, seed: str) -> list[int]:
    """The numbers below `count` in an order that depends on the seed alone.

    Cached: every sample of an epoch asks for the same order.
    """
    order = list(range(count))
    random.Random(seed).shuffle(order)
    return order


def opened(path: Path) -> Image.Image:
    """The image in a file as RGB, the right way up. Raises DataInvalid."""
    try:
        return decoded(path.read_bytes(), str(path))
    except OSError as error:
        raise DataInvalid(f"{path}: {error}") from error


def decoded(data: bytes, name: str) -> Image.Image:
    """An encoded image as RGB, the right way up; `name` is for the error. Raises DataInvalid."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            # Cameras store pixels as the sensor lay and note in EXIF how to turn them.
            return ImageOps.exif_transpose(image).convert("RGB")
    # Pillow's decoders raise these for damaged files, beside OSError.
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataInvalid(f"{name} is no readable image: {error}") from error
