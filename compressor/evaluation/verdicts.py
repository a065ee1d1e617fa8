"""A model's scores beside what is right: what a calibration is fitted on, and checked by.

Shapes: Q search texts, H hits of each, n scores.
"""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from compressor.errors import DataInvalid
from compressor.evaluation.scores import (
    BATCH,
    MAX_ANSWER_TOKENS,
    Tracked,
    image_embeddings,
    requests_about,
    text_embeddings,
)
from compressor.evaluation.vqa import exact_match, normalised
from compressor.ports import GenerationLimits, Generator, SummaryModel
from compressor.training.datasets import Entry

HITS = 10  # of a search: those that a person looks at
# A search text in ten is nonsense, and matches nothing.
_TEXTS_PER_NONSENSE = 10
# What a search text names is in its other words.
_FUNCTION_WORDS = frozenset(
    {
        "and", "are", "at", "by", "for", "from", "her", "his", "in", "is", "it", "its", "of", "on",
        "or", "photo", "photos", "picture", "pictures", "some", "that", "their", "there", "this",
        "to", "while", "with",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Searches:
    """Images with what is said of each, texts, and the number of the image each is taken from."""

    images: Sequence[Callable[[], Image]]
    said: Sequence[Sequence[str]]
    texts: Sequence[str]
    owners: Sequence[int]


@dataclass(frozen=True)
class QuestionAbout:
    """A question about an image, and the right answer."""

    image: Callable[[], Image]
    question: str
    answer: str


@dataclass(frozen=True)
class Verdicts:
    """Scores (n,) float64, and whether what each belongs to is right (n,) bool."""

    scores: NDArray[np.float64]
    right: NDArray[np.bool_]


def searches_of(entries: Sequence[Entry]) -> Searches:
    """Every caption and query as a search text."""
    described = [entry for entry in entries if entry.captions or entry.queries]
    said = [(*entry.captions, *entry.queries) for entry in described]
    texts: list[str] = []
    owners: list[int] = []
    for number, own in enumerate(said):
        texts += own
        owners += [number] * len(own)
    return Searches([entry.images[0] for entry in described], said, texts, owners)


def questions_of(entries: Sequence[Entry]) -> list[QuestionAbout]:
    """Every question about one image that needs no earlier turn, beside the image."""
    asked = []
    for entry in entries:
        if len(entry.images) > 1:
            continue
        first_turns = [turns[0] for turns in entry.conversations if turns]
        for question in (*entry.questions, *first_turns):
            image = entry.images[0]
            asked.append(QuestionAbout(image, question.question, question.answer))
    return asked


def hit_verdicts(
    model: SummaryModel, searches: Searches, track: Tracked = iter
) -> list[tuple[str, Verdicts]]:
    """The first hits of each text and of nonsense among the images, and which of them are right.

    Right is the image that the text is taken from, and any other of which all is said, in one
    sentence, that the text names: "dogs" finds many pictures rightly, whichever it is taken from.

    The hits and not all images, because a search shows no others: whatever the curve says of the
    rest, nobody reads it.
    """
    images = image_embeddings(model, searches.images, track)
    said = [[named_in(text) for text in own] for own in searches.said]
    rng = random.Random(0)
    texts = list(searches.texts)
    owners = list(searches.owners)
    for text in searches.texts[::_TEXTS_PER_NONSENSE]:
        texts.append(_nonsense_like(text, rng))
        owners.append(-1)
    scores = text_embeddings(model, texts) @ images.T
    hits = np.argsort(-scores, axis=1, kind="stable")[:, :HITS]
    verdicts = []
    for row, text in enumerate(texts):
        of_hits = scores[row, hits[row]].astype(np.float64)
        wanted = named_in(text)
        right = [hit == owners[row] or _is_said(wanted, said[hit]) for hit in hits[row]]
        verdicts.append((text, Verdicts(of_hits, np.array(right, dtype=bool))))
    return verdicts


def named_in(text: str) -> frozenset[str]:
    """The words of an English text that name something, the plural as the singular."""
    words = set(normalised(text).split()) - _FUNCTION_WORDS
    return frozenset(word.removesuffix("s") for word in words)


def _is_said(wanted: Collection[str], said: Sequence[frozenset[str]]) -> bool:
    return bool(wanted) and any(own.issuperset(wanted) for own in said)


def _nonsense_like(text: str, rng: random.Random) -> str:
    """Random letters in words of the same lengths."""
    words = []
    for word in text.split():
        words.append("".join(rng.choices(string.ascii_lowercase, k=len(word))))
    return " ".join(words)


def answer_verdicts(
    model: SummaryModel,
    generator: Generator,
    asked: Sequence[QuestionAbout],
    track: Tracked = iter,
) -> Verdicts:
    """The mean token probability of each answer, and whether it is the right one (exact match).

    Each image is compressed once, however many questions are about it. Raises DataInvalid for a
    generator that knows no probabilities.
    """
    scores: list[float] = []
    right: list[bool] = []
    tokens: dict[Callable[[], Image], NDArray[np.float32]] = {}
    for start in track(range(0, len(asked), BATCH)):
        batch = asked[start : start + BATCH]
        new = list(
            dict.fromkeys(each.image for each in batch if each.image not in tokens)
        )
        if new:
            tokens |= zip(
                new, model.compress([image() for image in new]).tokens, strict=True
            )
        questions = [question.question for question in batch]
        requests = requests_about([[tokens[each.image]] for each in batch], questions)
        texts = [""] * len(batch)
        probabilities: list[float | None] = [None] * len(batch)
        limits = [GenerationLimits(MAX_ANSWER_TOKENS)] * len(batch)
        for piece in generator.generate(requests, limits):
            texts[piece.request] += piece.text
            probabilities[piece.request] = piece.mean_probability
        for question, text, probability in zip(
            batch, texts, probabilities, strict=True
        ):
            if probability is None:
                raise DataInvalid("this generator knows no probabilities of its tokens")
            scores.append(probability)
            right.append(exact_match(text, [question.answer]) == 1)
    return Verdicts(np.array(scores), np.array(right, dtype=bool))


def joined(parts: Sequence[Verdicts]) -> Verdicts:
    """The verdicts of all parts, in order."""
    scores = [part.scores for part in parts]
    right = [part.right for part in parts]
    return Verdicts(np.concatenate(scores), np.concatenate(right))
