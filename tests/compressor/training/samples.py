"""What tests of training run on: a LLaVA of a few thousand weights, samples drawn here."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL import Image

from compressor.fwd2bot.model import SummaryLvlm
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


def logged(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's log."""
    text = (run / "log.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def trained_parameters(model: SummaryLvlm) -> dict[str, torch.Tensor]:
    """Copies of what training changes."""
    copies = {}
    for name, parameter in model.trained_parameters():
        copies[name] = parameter.detach().clone()
    return copies


def all_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Whether two models' parameters are the same bit for bit."""
    assert one.keys() == other.keys()
    return all(torch.equal(one[name], other[name]) for name in one)


def sample(number: int) -> Sample:
    """An image of one colour with a name."""
    colour, name = THINGS[number % len(THINGS)]
    image = Image.new("RGB", (40, 30), colour)
    questions = (
        QA("What is in the image?", f"A {name}.", "naming"),
        QA("Which colour?", f"{colour}.", "colour"),
    )
    return Sample((image,), questions, f"a {colour} {name}", "drawn")


class Stream:
    """A fake source of samples; `before` is called with the number of each that is made."""

    has_captions = True
    identity: ClassVar[dict[str, Any]] = {"stream": 1}

    def __init__(self, before: Callable[[int], None] = lambda _: None) -> None:
        self._before = before

    def __getitem__(self, number: int) -> Sample:
        self._before(number)
        return sample(number)


def ready(
    model: SummaryLvlm, samples: Sequence[Sample], config: TrainConfig, size: int = 0
) -> list[Batch]:
    """Micro batches of `size` samples, or one of all."""
    size = size or len(samples)
    batches = []
    for start in range(0, len(samples), size):
        part = samples[start : start + size]
        batches.append(Batch.of(model, part, config))
    return batches


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
    naming, colour = batch[1].questions
    batch[1] = replace(batch[1], caption="", questions=(naming,))
    batch[2] = replace(batch[2], caption="")
    longer = QA("Where?", "a red car on a green hill.", "where")
    batch[3] = replace(batch[3], questions=(naming, colour, longer))
    batch[4] = replace(batch[4], questions=())
    turns = batch[5].questions
    batch[5] = replace(batch[5], questions=(), dialogue=turns)
    return batch
