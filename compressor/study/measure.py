"""What a model of a study is measured by: answers, descriptions, recall, and the answers' loss."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from compressor.evaluation.folder import (
    Figure,
    answered_questions,
    description_figure,
    descriptions,
    figures_by_kind,
    interval,
    recall_figures,
)
from compressor.evaluation.scores import TokenSource, Tracked, token_sources
from compressor.fwd2bot.baselines import SUMMARY_TOKENS
from compressor.fwd2bot.generator import LvlmGenerator
from compressor.fwd2bot.model import SummaryLvlm
from compressor.fwd2bot.summary_model import LvlmSummaryModel
from compressor.training.batch import Batch
from compressor.training.config import TrainConfig
from compressor.training.datasets import Dataset, Entry
from compressor.training.distributed import SINGLE
from compressor.training.stream import Blend
from compressor.training.trainer import eval_batches, evaluate

EXACT = "answers, exact (%)"
FIRST_WORD = "answers, first word (%)"
LOSS = "answers, loss (nats a token)"
DESCRIPTION = "description, CIDEr-D"
RECALL = "{} (%)"
# The figures of the table and the plot.
FIGURES = (
    LOSS,
    EXACT,
    FIRST_WORD,
    DESCRIPTION,
    RECALL.format("caption to image, R@1"),
    RECALL.format("caption to image, R@10"),
)
_LOSS_BATCH = 8  # images; the interval is over batches
_NO_FINGERPRINT = "0" * 32  # nothing is stored


@dataclass(frozen=True)
class Measured:
    """The figures of a model, and how much the answers read of an image."""

    figures: dict[str, Figure]
    values: int  # numbers kept of an image, the mean over images


def drawn_questions(entries: Sequence[Entry], count: int) -> list[Entry]:
    """The entries with at most `count` of their questions, the same ones at every call."""
    drawn = []
    for entry in entries:
        questions = list(entry.questions)
        random.Random(entry.id).shuffle(questions)
        drawn.append(replace(entry, questions=tuple(questions[:count])))
    return drawn


def measured(
    model: SummaryLvlm,
    config: TrainConfig,
    entries: Sequence[Entry],
    track: Tracked = iter,
) -> Measured:
    """All figures of a trained model over held-out images.

    A baseline stores nothing that a text could find, so it has no recall.
    """
    summary_model = LvlmSummaryModel(model, _NO_FINGERPRINT)
    sizes: list[int] = []
    source = _noting(
        token_sources(summary_model, model)[config.second_pass_input], sizes
    )
    generator = LvlmGenerator(model)
    figures = {LOSS: held_out_loss(model, config, entries)}

    answers = list(answered_questions(generator, source, entries, track))
    if answers:
        figures[EXACT] = _percent([answer.is_exact for answer in answers])
        figures[FIRST_WORD] = _percent([answer.has_key_word for answer in answers])
    for kind, of_kind in figures_by_kind(answers).items():
        figures[f"{kind}, exact"] = of_kind["exact"]

    captioned = [entry for entry in entries if entry.captions]
    if captioned:
        texts = descriptions(generator, source, captioned, track)
        figures[DESCRIPTION] = description_figure(texts, captioned)
    if captioned and config.second_pass_input == SUMMARY_TOKENS:
        recall = recall_figures(summary_model, captioned, track)
        figures |= {RECALL.format(name): figure for name, figure in recall.items()}
    return Measured(figures, round(float(np.mean(sizes))))


def held_out_loss(
    model: SummaryLvlm, config: TrainConfig, entries: Sequence[Entry]
) -> Figure:
    """Cross entropy of the held-out answers, whatever the cell was trained on."""
    asked = replace(
        config,
        autoregressive_weight=1.0,
        distillation_weight=0.0,
        contrastive_weight=0.0,
        contrastive_queue=0,
        batch_size=_LOSS_BATCH,
        micro_batch_size=0,
        eval_samples=len(entries),
    )
    # One seed for all cells: they are asked the same.
    held_out = Blend([Dataset(entries, {})], (), seed=1, role="answers")
    batches = eval_batches(
        [held_out], partial(Batch.of, model, config=asked), asked, SINGLE
    )
    losses = []
    for batch in batches:
        loss, _ = evaluate(model, [batch], asked, SINGLE)
        if loss is not None:
            losses.append(loss)
    return replace(interval(losses), count=len(entries))


def _percent(hits: Sequence[bool]) -> Figure:
    return interval([100.0 * float(hit) for hit in hits])


def _noting(source: TokenSource, sizes: list[int]) -> TokenSource:
    """The source, which notes how many numbers it gives of each image."""

    def noting(images: Sequence[Image.Image]) -> Sequence[NDArray[np.float32]]:
        rows = source(images)
        sizes.extend(vectors.size for vectors in rows)
        return rows

    return noting
