"""Samples made ready for both passes: whatever needs no weights, so that worker processes do it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from inspect import signature
from typing import Any

import torch
from torch import Tensor

from compressor.errors import DataInvalid, ImageRefused
from compressor.fwd2bot.baselines import SUMMARY_TOKENS, Baseline
from compressor.fwd2bot.model import ImageInputs, SummaryLvlm
from compressor.training.config import TrainConfig
from compressor.training.packing import TokenizedSample, tokenize
from compressor.training.sample import Sample


@dataclass(frozen=True)
class Batch:
    """B samples and what the model reads of their I images, on the CPU."""

    samples: Sequence[Sample]
    inputs: dict[
        str, Tensor
    ]  # of the first pass; empty where a baseline takes its place
    # For all visual tokens: what a tuned base, or the teacher, reads.
    visual: ImageInputs | None
    tokenized: list[TokenizedSample]  # the conversations of the samples that have any
    answered: list[range]  # which of the I images each of these is about
    captions: list[str]  # for the contrastive loss
    captioned: list[int]  # which images these are of
    truncated: int  # conversations that lost turns to the context
    left_out: int  # conversations that fit neither the context nor the chat template
    refused: int  # samples whose image the model's processor does not take

    @classmethod
    def of(
        cls, model: SummaryLvlm, samples: Sequence[Sample], config: TrainConfig
    ) -> Batch:
        """Processes images, tokenizes conversations and truncates captions.

        Samples whose image the model refuses are left out. Raises ImageRefused if that is all.
        """
        taken = _taken(model, samples, config)
        refused = len(samples) - len(taken.samples)
        samples = taken.samples
        tokenized: list[TokenizedSample] = []
        answered: list[range] = []
        captions: list[str] = []
        captioned: list[int] = []
        truncated = left_out = images = 0
        for sample in samples:
            own = range(images, images + len(sample.images))
            images = own.stop
            # A loss without a weight has nothing to read.
            count = config.questions_per_image if config.autoregressive_weight else 0
            conversations = sample.conversations[:count]
            tokens = tokenize(model, conversations, config.max_tokens, len(own))
            truncated += tokens.truncated
            left_out += tokens.left_out
            if tokens.ids:
                tokenized.append(tokens)
                answered.append(own)
            if config.contrastive_weight and sample.caption:
                captions.append(_truncated(model, sample.caption, config))
                captioned.append(own.start)
        return cls(
            samples,
            taken.inputs,
            taken.visual,
            tokenized,
            answered,
            captions,
            captioned,
            truncated,
            left_out,
            refused=refused,
        )

    @property
    def taught(self) -> list[int]:
        """Which tokenized samples the teacher reads too: those of one image.

        Few LVLMs have seen several images together in training.
        """
        return [number for number, own in enumerate(self.answered) if len(own) == 1]

    @property
    def broken(self) -> int:
        """How many images cannot be read or are refused."""
        return self.refused + sum(len(sample.broken) for sample in self.samples)

    @property
    def answer_tokens(self) -> int:
        """How many tokens the autoregressive loss is over."""
        return sum(sample.answer_tokens for sample in self.tokenized)

    def pin_memory(self) -> Batch:
        """The same in page-locked memory, from which copies to a GPU need not be waited for.

        A DataLoader calls this.
        """
        visual = self.visual
        if visual is not None:
            visual = replace(visual, inputs=_pinned(visual.inputs))
        return replace(
            self,
            # Conversations are lists of numbers, which `pack` copies to the device in one table.
            inputs=_pinned(self.inputs),
            visual=visual,
        )


@dataclass(frozen=True)
class _Taken:
    """The samples whose image the model takes, and the processor's inputs of them."""

    samples: Sequence[Sample]
    inputs: dict[str, Tensor]
    visual: ImageInputs | None


def _taken(
    model: SummaryLvlm, samples: Sequence[Sample], config: TrainConfig
) -> _Taken:
    taken = list(samples)
    has_first_pass = config.second_pass_input == SUMMARY_TOKENS
    tunes_base = config.second_pass_input == Baseline.ALL_VISUAL_TOKENS
    reads_all = tunes_base or config.distillation_weight > 0
    inputs: dict[str, Tensor] = {}
    visual = None
    while True:
        images = [image for sample in taken for image in sample.images]
        own = _own_inputs(model, taken)
        try:
            if has_first_pass:
                inputs = model.first_pass_inputs(images, torch.device("cpu")) | own
            if reads_all:
                visual = model.image_inputs(images)
                visual = replace(visual, inputs=visual.inputs | own)
            return _Taken(taken, inputs, visual)
        except ImageRefused as error:
            # A batch of nothing cannot be run; nor is one image's failure worth a whole run.
            if len(taken) == 1:
                raise
            # The sample of the first picture that is refused; there may be more.
            owners = [row for row, sample in enumerate(taken) for _ in sample.images]
            del taken[owners[error.index]]


def _own_inputs(model: SummaryLvlm, samples: Sequence[Sample]) -> dict[str, Tensor]:
    """What samples bring for the model themselves: (I, L) of each name, -1 where one has none.

    Raises DataInvalid if the model takes no input of a name, or two samples' differ in length.
    """
    taken = signature(type(model.base.base_model).forward).parameters
    lengths: dict[str, int] = {}
    for sample in samples:
        for name, numbers in sample.model_inputs.items():
            if name not in taken:
                raise DataInvalid(f"the model takes no `{name}` of `model_inputs`")
            if lengths.setdefault(name, len(numbers)) != len(numbers):
                raise DataInvalid(
                    f"`{name}` of `model_inputs` has {lengths[name]} numbers in one sample and "
                    f"{len(numbers)} in another"
                )
    return {
        name: torch.tensor(
            [
                sample.model_inputs.get(name, (-1,) * length)
                for sample in samples
                for _ in sample.images
            ]
        )
        for name, length in lengths.items()
    }


def _pinned(inputs: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value.pin_memory() if isinstance(value, Tensor) else value
        for name, value in inputs.items()
    }


def _truncated(model: SummaryLvlm, caption: str, config: TrainConfig) -> str:
    """The caption, or its first `max_caption_tokens` as text."""
    # Without the tokens that begin a text: they would count as words of the caption.
    ids = model.tokenizer(caption, add_special_tokens=False)["input_ids"]
    if len(ids) <= config.max_caption_tokens:
        return caption
    return str(model.tokenizer.decode(ids[: config.max_caption_tokens]))
