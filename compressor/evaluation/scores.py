"""Runs data sets of images, texts and questions through the two ports and scores what comes back.

Knows nothing of files' formats. Shapes: N images, M texts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from compressor.evaluation.compositional import (
    Crossed,
    WrongCaption,
    sugarcrepe_scores,
    winoground_scores,
)
from compressor.evaluation.karpathy import CaptionedImage, both_ways
from compressor.evaluation.vqa import SCORES, AskedImage
from compressor.fwd2bot.baselines import BASELINES, SUMMARY_TOKENS, Baseline
from compressor.fwd2bot.generator import whole_answers
from compressor.fwd2bot.model import SummaryLvlm
from compressor.ports import GenerationLimits, GenerationRequest, Generator, SummaryModel, Turn
from compressor.training.sample import opened

# Many images, texts and questions through the two ports, a batch at a time.
#  Shapes: N images, M texts, D hidden size, E embedding size.


BATCH = 16
MAX_ANSWER_TOKENS = 16
Tracked = Callable[[Sequence[int]], Iterable[int]]  # shows how far a long loop has come


class Picture(Protocol):
    """A picture that is opened when it is needed."""

    def open(self) -> Image.Image:
        """RGB, the right way up. Raises DataInvalid."""
        ...


@dataclass(frozen=True)
class RetrievalSet:
    """Texts and the pictures they are about, pairwise."""

    photos: Sequence[Picture]
    texts: Sequence[str]

    def first(self, count: int) -> RetrievalSet:
        """The set of the first `count` pairs."""
        return RetrievalSet(self.photos[:count], self.texts[:count])


def image_embeddings(
    model: SummaryModel, openers: Sequence[Callable[[], Image.Image]], track: Tracked = iter
) -> NDArray[np.float32]:
    """(N, E); a batch of images is open at a time."""
    parts = [
        model.compress([open_image() for open_image in openers[start : start + BATCH]]).embeddings
        for start in track(range(0, len(openers), BATCH))
    ]
    return np.concatenate(parts)


def text_embeddings(model: SummaryModel, texts: Sequence[str]) -> NDArray[np.float32]:
    """(M, E); texts of about one length share a batch, which leaves little padding."""
    order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
    embeddings = np.empty((len(texts), model.embedding_size), dtype=np.float32)
    for start in range(0, len(order), 4 * BATCH):
        batch = order[start : start + 4 * BATCH]
        embeddings[batch] = model.embed_text([texts[number] for number in batch])
    return embeddings


def short_answers(
    generator: Generator, tokens: Sequence[NDArray[np.float32]], questions: Sequence[str]
) -> list[str]:
    """An answer to each question about the image of its tokens (any number, D)."""
    requests = [
        GenerationRequest([vectors], [Turn("user", question)])
        for vectors, question in zip(tokens, questions, strict=True)
    ]
    return whole_answers(generator, requests, [GenerationLimits(MAX_ANSWER_TOKENS)] * len(requests))


def captioned(
    model: SummaryModel, images: Sequence[CaptionedImage], track: Tracked
) -> dict[str, float]:
    """Recall both ways, in percent."""
    texts = [caption for image in images for caption in image.captions]
    owners = [number for number, image in enumerate(images) for _ in image.captions]
    seen = image_embeddings(model, [partial(opened, image.path) for image in images], track)
    return both_ways(seen, text_embeddings(model, texts), owners)


def sugarcrepe(
    model: SummaryModel, questions: Mapping[str, Sequence[WrongCaption]], track: Tracked
) -> dict[str, float]:
    """Percent right of each category and their mean; a tie is wrong."""
    paths = list(
        dict.fromkeys(
            question.path for of_category in questions.values() for question in of_category
        )
    )
    seen = dict(
        zip(
            paths,
            image_embeddings(model, [partial(opened, path) for path in paths], track),
            strict=True,
        )
    )
    right: dict[str, list[bool]] = {}
    for category, of_category in questions.items():
        images = np.stack([seen[question.path] for question in of_category])
        own = (images * text_embeddings(model, [question.caption for question in of_category])).sum(
            1
        )
        other = (
            images * text_embeddings(model, [question.negative for question in of_category])
        ).sum(1)
        right[category] = (own > other).tolist()
    return sugarcrepe_scores(right)


def winoground(
    model: SummaryModel, questions: Sequence[Crossed], track: Tracked
) -> dict[str, float]:
    """Text, image and group score, in percent."""
    images = image_embeddings(
        model, [partial(opened, path) for question in questions for path in question.images], track
    )
    texts = text_embeddings(model, [text for question in questions for text in question.captions])
    pairs = (len(questions), 2, -1)
    return winoground_scores(np.einsum("qte,qie->qti", texts.reshape(pairs), images.reshape(pairs)))


def answered(
    model: SummaryModel,
    generator: Generator,
    asked: Sequence[AskedImage],
    score: str,
    track: Tracked,
) -> Iterator[tuple[AskedImage, str, float]]:
    """Each question with the model's answer and its score, 0 to 1; `score` is a key of vqa.SCORES."""
    for start in track(range(0, len(asked), BATCH)):
        batch = asked[start : start + BATCH]
        tokens = model.compress([opened(each.path) for each in batch]).tokens
        texts = short_answers(generator, tokens, [each.question for each in batch])
        for each, text in zip(batch, texts, strict=True):
            yield each, text.strip(), SCORES[score](text, each.answers)


TokenSource = Callable[[Sequence[Image.Image]], Sequence[NDArray[np.float32]]]


def token_sources(model: SummaryModel, lvlm: SummaryLvlm) -> Mapping[str, TokenSource]:
    """What the second pass may read of each image, by name: summary tokens or a baseline's vectors.

    All sources share the language model and its second-pass adapter, which reads best what it was
    trained on (`second_pass_input` of a recipe). Each gives (any number, D) vectors an image.
    """

    def from_baseline(
        images: Sequence[Image.Image], baseline: Baseline
    ) -> list[NDArray[np.float32]]:
        with torch.inference_mode():
            vectors = BASELINES[baseline](lvlm, images)
        return [rows.float().cpu().numpy() for rows in vectors]

    return {
        SUMMARY_TOKENS: lambda images: list(model.compress(images).tokens),
        **{name: partial(from_baseline, baseline=name) for name in BASELINES},
    }
