"""Runs data sets of images, texts and questions through the two ports, and scores the results.

Shapes: N images, M texts, D hidden size, E embedding size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

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
from compressor.ports import (
    GenerationLimits,
    GenerationRequest,
    Generator,
    SummaryModel,
    Turn,
)
from compressor.training.sample import opened

BATCH = 16
MAX_ANSWER_TOKENS = 16
Tracked = Callable[[Sequence[int]], Iterable[int]]  # shows how far a long loop has come


def image_embeddings(
    model: SummaryModel,
    openers: Sequence[Callable[[], Image.Image]],
    track: Tracked = iter,
) -> NDArray[np.float32]:
    """(N, E); a batch of images is open at a time."""
    # Opened late: a data set of thousands of images does not fit into memory decoded.
    parts = []
    for start in track(range(0, len(openers), BATCH)):
        images = [open_image() for open_image in openers[start : start + BATCH]]
        parts.append(model.compress(images).embeddings)
    return np.concatenate(parts)


def text_embeddings(model: SummaryModel, texts: Sequence[str]) -> NDArray[np.float32]:
    """(M, E); texts of about one length share a batch, which leaves little padding."""
    # By characters, for counting tokens would cost a second tokenisation.
    order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
    embeddings = np.empty((len(texts), model.embedding_size), dtype=np.float32)
    # Texts are much shorter than an image's prompt, so more of them fit into a batch.
    for start in range(0, len(order), 4 * BATCH):
        batch = order[start : start + 4 * BATCH]
        embeddings[batch] = model.embed_text([texts[number] for number in batch])
    return embeddings


def short_answers(
    generator: Generator,
    tokens: Sequence[Sequence[NDArray[np.float32]]],
    questions: Sequence[str],
    max_tokens: int = MAX_ANSWER_TOKENS,
) -> list[str]:
    """An answer to each question about images, of each its tokens (any number, D)."""
    # One call for the whole batch: the second pass decodes its rows together.
    requests = requests_about(tokens, questions)
    limits = [GenerationLimits(max_tokens)] * len(requests)
    return whole_answers(generator, requests, limits)


def requests_about(
    tokens: Sequence[Sequence[NDArray[np.float32]]], questions: Sequence[str]
) -> list[GenerationRequest]:
    """A request for each question about images, of each its tokens (any number, D)."""
    requests = []
    for images, question in zip(tokens, questions, strict=True):
        requests.append(GenerationRequest(list(images), [Turn("user", question)]))
    return requests


def captioned(
    model: SummaryModel,
    images: Sequence[CaptionedImage],
    track: Tracked,
) -> dict[str, float]:
    """Recall both ways, in percent."""
    texts: list[str] = []
    owners: list[int] = []
    for number, image in enumerate(images):
        texts += image.captions
        owners += [number] * len(image.captions)
    openers = [partial(opened, image.path) for image in images]
    embeddings = image_embeddings(model, openers, track)
    return both_ways(
        embeddings,
        text_embeddings(model, texts),
        owners,
    )


def sugarcrepe(
    model: SummaryModel,
    questions: Mapping[str, Sequence[WrongCaption]],
    track: Tracked,
) -> dict[str, float]:
    """Percent right of each category and their mean; a tie is wrong."""
    # Categories share images: each is compressed once.
    row: dict[Path, int] = {}
    for of_category in questions.values():
        for question in of_category:
            row.setdefault(question.path, len(row))
    all_images = image_embeddings(
        model,
        [partial(opened, path) for path in row],
        track,
    )
    right: dict[str, list[bool]] = {}
    for category, of_category in questions.items():
        images = all_images[[row[question.path] for question in of_category]]
        captions = text_embeddings(
            model, [question.caption for question in of_category]
        )
        negatives = text_embeddings(
            model, [question.negative for question in of_category]
        )
        own_scores = (images * captions).sum(1)
        negative_scores = (images * negatives).sum(1)
        right[category] = (own_scores > negative_scores).tolist()
    return sugarcrepe_scores(right)


def winoground(
    model: SummaryModel,
    questions: Sequence[Crossed],
    track: Tracked,
) -> dict[str, float]:
    """Text, image and group score, in percent."""
    openers: list[Callable[[], Image.Image]] = []
    captions: list[str] = []
    for question in questions:
        openers += [partial(opened, path) for path in question.images]
        captions += question.captions
    # Both images and both captions of a question lie side by side.
    pairs = (len(questions), 2, -1)
    images = image_embeddings(model, openers, track).reshape(pairs)
    texts = text_embeddings(model, captions).reshape(pairs)
    return winoground_scores(np.einsum("qte,qie->qti", texts, images))


def answered(
    model: SummaryModel,
    generator: Generator,
    asked: Sequence[AskedImage],
    score: str,
    track: Tracked,
) -> Iterator[tuple[AskedImage, str, float]]:
    """Each question, the model's answer, its score in 0..1; `score` is a key of vqa.SCORES."""
    for start in track(range(0, len(asked), BATCH)):
        batch = asked[start : start + BATCH]
        summary = model.compress([opened(image.path) for image in batch])
        questions = [image.question for image in batch]
        texts = short_answers(
            generator,
            [[own] for own in summary.tokens],
            questions,
        )
        for image, text in zip(batch, texts, strict=True):
            yield image, text.strip(), SCORES[score](text, image.answers)


TokenSource = Callable[[Sequence[Image.Image]], Sequence[NDArray[np.float32]]]


def token_sources(model: SummaryModel, lvlm: SummaryLvlm) -> Mapping[str, TokenSource]:
    """Sources of what the second pass reads of an image: summary tokens, or a baseline's vectors.

    Each gives (any number, D) vectors an image. All sources share the language model and its
    second-pass adapter, which reads best what it was trained on (`second_pass_input` of a recipe).
    """

    def from_baseline(
        images: Sequence[Image.Image], baseline: Baseline
    ) -> list[NDArray[np.float32]]:
        # Baselines call the model below its ports, which switch gradients off by themselves.
        with torch.inference_mode():
            vectors = BASELINES[baseline](lvlm, images)
        return [rows.float().cpu().numpy() for rows in vectors]

    def from_summary(images: Sequence[Image.Image]) -> list[NDArray[np.float32]]:
        return list(model.compress(images).tokens)

    sources: dict[str, TokenSource] = {SUMMARY_TOKENS: from_summary}
    for name in BASELINES:
        sources[name] = partial(from_baseline, baseline=name)
    return sources
