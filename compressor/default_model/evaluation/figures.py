"""The default model's figures on held-out photographs and scenes.

They need only the two ports, so any summary model and generator can be measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from PIL.Image import Image

from compressor.default_model.data.cutouts import Objects
from compressor.default_model.data.photos import Photos
from compressor.default_model.data.questions import CaptionPair
from compressor.default_model.evaluation import heldout
from compressor.default_model.evaluation.heldout import SCORERS, HeldOutQuestion
from compressor.evaluation.scores import (
    BATCH,
    RetrievalSet,
    TokenSource,
    short_answers,
)
from compressor.ports import Generator, SummaryModel


@dataclass(frozen=True)
class Answered:
    """A held-out question with the model's answer."""

    question: HeldOutQuestion
    answer: str
    right: bool


def question_sets(
    photos: Photos, objects: Objects
) -> Mapping[str, Callable[[], Iterator[HeldOutQuestion]]]:
    """Name of each figure → its questions."""
    # Functions, not iterators: each source of tokens is asked all questions from the start.
    return {
        "naming": lambda: heldout.naming(photos),
        "background colour": lambda: heldout.background(objects),
        "counting 1-3": lambda: heldout.counting(objects, 3),
        "counting 1-4": lambda: heldout.counting(objects, 4),
        "is there a": lambda: heldout.existence(objects),
        "left or right": lambda: heldout.left_or_right(objects),
        "top or bottom": lambda: heldout.top_or_bottom(objects),
    }


def retrieval_sets(photos: Photos) -> Mapping[str, RetrievalSet]:
    """Name of each figure of text → image retrieval → its pairs."""
    return {
        "labels, text to image": heldout.label_retrieval(photos),
        "captions, text to image": heldout.caption_retrieval(photos),
    }


def answer(
    tokens_of: TokenSource,
    generator: Generator,
    questions: Iterator[HeldOutQuestion],
    limit: int | None = None,
) -> Iterator[Answered]:
    """Answers from the tokens that `tokens_of` makes of each image; at most `limit` questions."""
    questions = islice(questions, limit)
    # A batch at a time: a question holds its picture, and a set may have hundreds of them.
    while batch := list(islice(questions, BATCH)):
        tokens = tokens_of([question.image for question in batch])
        texts = short_answers(
            generator,
            tokens,
            [question.question for question in batch],
        )
        for question, text in zip(batch, texts, strict=True):
            is_right = SCORERS[question.scorer]
            yield Answered(
                question,
                text.strip(),
                is_right(text, question.expected),
            )


def preferred(
    model: SummaryModel,
    pairs: Iterator[tuple[Image, CaptionPair]],
    limit: int | None = None,
) -> list[bool]:
    """For each image whether its right caption scores above the wrong one; a tie is wrong."""
    pairs = islice(pairs, limit)
    preferences: list[bool] = []
    while batch := list(islice(pairs, BATCH)):
        images = model.compress([image for image, _ in batch]).embeddings
        right = model.embed_text([pair.right for _, pair in batch])
        wrong = model.embed_text([pair.wrong for _, pair in batch])
        margins = (images * right).sum(1) - (images * wrong).sum(1)
        preferences += (margins > 0).tolist()
    return preferences
