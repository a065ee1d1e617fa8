"""Samples made ready for both passes: whatever needs no weights, so that worker processes do it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from compressor.fwd2bot.baselines import SUMMARY_TOKENS
from compressor.fwd2bot.model import SummaryLvlm
from compressor.training.config import TrainConfig
from compressor.training.packing import TokenizedImage, tokenize
from compressor.training.sample import Sample


@dataclass(frozen=True)
class Batch:
    """B samples and what the model reads of them, on the CPU."""

    samples: Sequence[Sample]
    inputs: dict[str, Tensor]  # of the first pass; empty where a baseline takes its place
    tokenized: list[TokenizedImage]  # the conversations of the samples that have any
    answered: list[int]  # which samples these are
    captions: list[str]  # for the contrastive loss
    captioned: list[int]  # which samples these are of
    truncated: int  # conversations that lost turns to the context
    left_out: int  # conversations of which no turn fits

    @classmethod
    def of(cls, model: SummaryLvlm, samples: Sequence[Sample], config: TrainConfig) -> Batch:
        """Processes images, tokenizes conversations and truncates captions."""
        inputs = {}
        if config.second_pass_input == SUMMARY_TOKENS:
            images = [sample.image for sample in samples]
            inputs = model.first_pass_inputs(images, torch.device("cpu"))
        images_with_answers: dict[int, TokenizedImage] = {}
        if config.autoregressive_weight:
            for row, sample in enumerate(samples):
                conversations = sample.conversations[: config.questions_per_image]
                images_with_answers[row] = tokenize(model, conversations, config.max_tokens)
        answered = [row for row, image in images_with_answers.items() if image.ids]
        captioned = []
        if config.contrastive_weight:
            captioned = [row for row, sample in enumerate(samples) if sample.caption]
        return cls(
            samples,
            inputs,
            tokenized=[images_with_answers[row] for row in answered],
            answered=answered,
            captions=[_truncated(model, samples[row].caption, config) for row in captioned],
            captioned=captioned,
            truncated=sum(image.truncated for image in images_with_answers.values()),
            left_out=sum(image.left_out for image in images_with_answers.values()),
        )

    @property
    def answer_tokens(self) -> int:
        """How many tokens the autoregressive loss is over."""
        return sum(image.answer_tokens for image in self.tokenized)

    def pin_memory(self) -> Batch:
        """The same in page-locked memory, from which copies to a GPU need not be waited for.

        A DataLoader calls this.
        """
        return replace(
            self, inputs={name: value.pin_memory() for name, value in self.inputs.items()}
        )


def _truncated(model: SummaryLvlm, caption: str, config: TrainConfig) -> str:
    """The caption, or its first `max_caption_tokens` as text."""
    ids = model.tokenizer(caption, add_special_tokens=False)["input_ids"]
    if len(ids) <= config.max_caption_tokens:
        return caption
    return str(model.tokenizer.decode(ids[: config.max_caption_tokens]))
