"""Figures over a folder of captioned and questioned images, the format that training reads.

Questions by kind, CIDEr-D of descriptions, and text-to-image recall, each with a 95 % bootstrap
interval. Shapes: N images, D hidden size.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from compressor.evaluation.cider import cider_d
from compressor.evaluation.karpathy import RANKS, text_to_image_ranks
from compressor.evaluation.scores import (
    BATCH,
    TokenSource,
    Tracked,
    image_embeddings,
    short_answers,
    text_embeddings,
)
from compressor.evaluation.vqa import normalised
from compressor.ports import Generator, SummaryModel
from compressor.training.datasets import Entry
from compressor.training.sample import QA

DESCRIBE = "Describe this picture."
MAX_ANSWER_TOKENS = 32
_RESAMPLES = 1000


@dataclass(frozen=True)
class Figure:
    """A figure with its interval."""

    value: float
    low: float
    high: float
    count: int  # what it is the mean over

    def values(self) -> dict[str, float]:
        """As the commands print it."""
        return {
            "value": round(self.value, 3),
            "low": round(self.low, 3),
            "high": round(self.high, 3),
            "of": self.count,
        }


@dataclass(frozen=True)
class AnsweredQuestion:
    """A question of the folder, and what the model answered."""

    image: str
    qa: QA
    answer: str

    @property
    def is_exact(self) -> bool:
        """Whether the answers are equal but for case, articles, punctuation and number words."""
        return normalised(self.answer) == normalised(self.qa.answer)

    @property
    def has_key_word(self) -> bool:
        """Whether they begin alike: in these answers the word that matters comes first."""
        own, wanted = (
            normalised(self.answer).split(),
            normalised(self.qa.answer).split(),
        )
        return bool(own) and own[:1] == wanted[:1]


def interval(values: Sequence[float]) -> Figure:
    """The mean with its 95 % bootstrap interval (percentiles of 1,000 resamples)."""
    numbers = np.asarray(values, dtype=np.float64)
    draw = np.random.default_rng(1)
    picks = draw.integers(len(numbers), size=(_RESAMPLES, len(numbers)))
    low, high = np.percentile(numbers[picks].mean(1), [2.5, 97.5])
    return Figure(float(numbers.mean()), float(low), float(high), len(numbers))


def answered_questions(
    generator: Generator,
    source: TokenSource,
    entries: Sequence[Entry],
    track: Tracked,
) -> Iterator[AnsweredQuestion]:
    """The answers to all questions of the entries, of which the second pass reads `source`."""
    for start in track(range(0, len(entries), BATCH)):
        batch = entries[start : start + BATCH]
        opened = [entry.open() for entry in batch]
        tokens = iter(source([image for images in opened for image in images]))
        asked: list[tuple[Entry, QA, list[NDArray[np.float32]]]] = []
        for entry, images in zip(batch, opened, strict=True):
            vectors = list(islice(tokens, len(images)))
            asked += [(entry, question, vectors) for question in entry.questions]
        # Prompts of about one length share a batch, which leaves little padding.
        asked.sort(key=lambda row: len(row[1].question))
        for first in range(0, len(asked), 2 * BATCH):
            rows = asked[first : first + 2 * BATCH]
            vectors_of_rows = [vectors for _, _, vectors in rows]
            questions = [question.question for _, question, _ in rows]
            texts = _answers(generator, vectors_of_rows, questions)
            for (entry, question, _), text in zip(rows, texts, strict=True):
                yield AnsweredQuestion(entry.id, question, text)


def descriptions(
    generator: Generator,
    source: TokenSource,
    entries: Sequence[Entry],
    track: Tracked,
) -> list[str]:
    """A description of each entry's one image."""
    texts: list[str] = []
    for start in track(range(0, len(entries), BATCH)):
        batch = entries[start : start + BATCH]
        tokens = source([entry.images[0]() for entry in batch])
        own = [[vectors] for vectors in tokens]
        texts += _answers(generator, own, [DESCRIBE] * len(own))
    return texts


def _answers(
    generator: Generator,
    tokens: Sequence[Sequence[NDArray[np.float32]]],
    questions: Sequence[str],
) -> list[str]:
    texts = short_answers(generator, tokens, questions, MAX_ANSWER_TOKENS)
    return [text.strip() for text in texts]


def figures_by_kind(
    answered: Sequence[AnsweredQuestion],
) -> dict[str, dict[str, Figure]]:
    """Shares of exact answers and of those with the right key word, by kind of question."""
    by_kind: dict[str, list[AnsweredQuestion]] = {}
    for answer in answered:
        by_kind.setdefault(answer.qa.kind, []).append(answer)
    figures = {}
    for kind in sorted(by_kind):
        answers = by_kind[kind]
        figures[kind] = {
            "exact": interval([float(answer.is_exact) for answer in answers]),
            "key word": interval([float(answer.has_key_word) for answer in answers]),
        }
    return figures


def description_figure(texts: Sequence[str], entries: Sequence[Entry]) -> Figure:
    """CIDEr-D over all images; the interval is that of resampled halves of them."""
    references = [entry.captions for entry in entries]
    whole = cider_d(texts, references)
    draw = random.Random(1)
    halves = []
    # Document frequencies belong to a set of images, so each resample is scored anew; halves
    # without repetition, since a repeated image would count twice in the frequencies.
    for _ in range(20):
        picks = draw.sample(range(len(texts)), max(1, len(texts) // 2))
        part = cider_d([texts[n] for n in picks], [references[n] for n in picks])
        halves.append(part)
    # A half has the spread of the whole times the root of two.
    spread = 1.96 * float(np.std(halves)) / 2**0.5
    return Figure(whole, whole - spread, whole + spread, len(texts))


def recall_figures(
    model: SummaryModel, entries: Sequence[Entry], track: Tracked
) -> dict[str, Figure]:
    """Recall in percent among all images: whether a text's own is among the first; ties lose.

    The texts are the first caption of each image, and its first query.
    """
    entries = [entry for entry in entries if len(entry.images) == 1]
    if not entries:
        return {}
    images = image_embeddings(model, [entry.images[0] for entry in entries], track)
    captions = [entry.captions[:1] for entry in entries]
    queries = [entry.queries[:1] for entry in entries]
    figures: dict[str, Figure] = {}
    for name, texts in (("caption", captions), ("query", queries)):
        owners = [number for number, own in enumerate(texts) if own]
        if not owners:
            continue
        embeddings = text_embeddings(model, [texts[number][0] for number in owners])
        ranks = text_to_image_ranks(embeddings @ images.T, np.array(owners))
        for limit in RANKS:
            found = [100.0 * float(place < limit) for place in ranks]
            figures[f"{name} to image, R@{limit}"] = interval(found)
    return figures
