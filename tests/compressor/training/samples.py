"""What tests of training run on: a LLaVA of a few thousand weights, samples drawn here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, ClassVar

import torch
from PIL import Image

from compressor.fwd2bot.model import FirstPass, SummaryLvlm
from compressor.training.batch import Batch
from compressor.training.config import TrainConfig
from compressor.training.distributed import SINGLE, Distributed
from compressor.training.sample import QA, Sample
from compressor.training.step import StepLosses, double_forward
from tests.compressor.production import SUMMARY, llava, production_model

THINGS = (
    ("red", "cat"),
    ("blue", "dog"),
    ("green", "tree"),
    ("yellow", "sports car"),
    ("white", "coffee mug"),
)


def tiny_lvlm(**changes: Any) -> SummaryLvlm:
    """LLaVA-1.5's classes with 8 summary tokens; the same weights at every call."""
    changes = {"token_count": 8, **changes}
    return production_model(llava, replace(SUMMARY, **changes))


def sample(number: int) -> Sample:
    """An image of one colour with a name."""
    colour, name = THINGS[number % len(THINGS)]
    image = Image.new("RGB", (40, 30), colour)
    questions = (
        QA("What is in the image?", f"A {name}.", "naming"),
        QA("Which colour?", f"{colour}.", "colour"),
    )
    return Sample(image, questions, f"a {colour} {name}", "drawn")


class Stream:
    """A fake source of samples; `before` is called with the number of each that is made."""

    has_captions = True
    identity: ClassVar[dict[str, Any]] = {"stream": 1}

    def __init__(self, before: Callable[[int], None] = lambda _: None) -> None:
        self._before = before

    def __getitem__(self, number: int) -> Sample:
        self._before(number)
        return sample(number)


class SmallTokens:
    """An auxiliary loss for tests: the summary tokens' mean square."""

    def __init__(self, weight: float) -> None:
        self.weight = weight

    def first_pass_context(self, batch: Sequence[Sample]) -> AbstractContextManager[None]:
        """Nothing."""
        del batch
        return nullcontext()

    def normalizer(self, batch: Sequence[Sample]) -> float:
        """How many samples there are."""
        return float(len(batch))

    def loss(self, first: FirstPass, batch: Sequence[Sample], normalizer: float) -> torch.Tensor:
        """The mean over samples."""
        del batch
        return first.tokens.square().mean((1, 2)).sum() / normalizer


def ready(
    model: SummaryLvlm, samples: Sequence[Sample], config: TrainConfig, size: int = 0
) -> list[Batch]:
    """Micro batches of `size` samples, or one of all."""
    size = size or len(samples)
    starts = range(0, len(samples), size)
    return [Batch.of(model, samples[start : start + size], config) for start in starts]


def stepped(
    model: SummaryLvlm,
    samples: Sequence[Sample],
    config: TrainConfig,
    world: Distributed = SINGLE,
) -> StepLosses:
    """The losses of a step over the samples, with their graph."""
    (batch,) = ready(model, samples, config)
    return double_forward(model, batch, config, world)


def uneven_batch() -> list[Sample]:
    """Seven samples that differ in captions, numbers of questions and lengths of answers.

    Two have no caption; one has nothing but a caption, and one a dialogue.
    """
    batch = [sample(number) for number in range(7)]
    batch[1] = replace(batch[1], caption="", questions=batch[1].questions[:1])
    batch[2] = replace(batch[2], caption="")
    longer = QA("Where?", "a red car on a green hill.", "where")
    batch[3] = replace(batch[3], questions=(*batch[3].questions, longer))
    batch[4] = replace(batch[4], questions=())
    batch[5] = replace(batch[5], questions=(), dialogue=batch[5].questions)
    return batch
