"""The default model's figures on held-out photographs and scenes.

Knows only the two ports, so that any summary model and generator can be measured.
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
    image_embeddings,
    short_answers,
    text_embeddings,
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
    """Name of each figure and the questions it is taken on."""
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
    """Name of each figure of text → image retrieval and the pairs it is taken on."""
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
    """Answers from what `tokens_of` makes of each image; at most `limit` questions."""
    questions = islice(questions, limit)
    while batch := list(islice(questions, BATCH)):
        tokens = tokens_of([each.image for each in batch])
        texts = short_answers(generator, tokens, [each.question for each in batch])
        for each, text in zip(batch, texts, strict=True):
            yield Answered(each, text.strip(), SCORERS[each.scorer](text, each.expected))


def recall(
    model: SummaryModel, pairs: RetrievalSet, ranks: tuple[int, ...] = (1, 5, 10)
) -> dict[str, float]:
    """Text → image recall at each rank, in percent: the share of texts whose image is among the first."""
    images = image_embeddings(model, [photo.open for photo in pairs.photos])
    texts = text_embeddings(model, pairs.texts)
    scores = texts @ images.T
    place = (scores > scores.diagonal()[:, None]).sum(1)
    return {f"R@{rank}": round(100 * float((place < rank).mean()), 1) for rank in ranks}


def preferred(
    model: SummaryModel, pairs: Iterator[tuple[Image, CaptionPair]], limit: int | None = None
) -> list[bool]:
    """For each image whether its right caption scores above the wrong one; a tie is wrong."""
    pairs = islice(pairs, limit)
    found: list[bool] = []
    while batch := list(islice(pairs, BATCH)):
        images = model.compress([image for image, _ in batch]).embeddings
        right, wrong = (
            (images * model.embed_text([getattr(pair, kind) for _, pair in batch])).sum(1)
            for kind in ("right", "wrong")
        )
        found += (right > wrong).tolist()
    return found
