"""Runs data sets of images, texts and questions through the two ports and scores what comes back.

Knows nothing of files' formats. Shapes: N images, M texts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import numpy as np

from compressor.evaluation.batches import BATCH, Tracked, image_embeddings, short_answers, text_embeddings
from compressor.evaluation.compositional import Crossed, WrongCaption, sugarcrepe_scores, winoground_scores
from compressor.evaluation.karpathy import CaptionedImage, both_ways
from compressor.evaluation.vqa import SCORES, AskedImage
from compressor.ports import Generator, SummaryModel
from compressor.training.data.photos import opened


def captioned(model: SummaryModel, images: Sequence[CaptionedImage], track: Tracked) -> dict[str, float]:
    """Recall both ways, in percent."""
    texts = [caption for image in images for caption in image.captions]
    owners = [number for number, image in enumerate(images) for _ in image.captions]
    seen = image_embeddings(model, [partial(opened, image.path) for image in images], track)
    return both_ways(seen, text_embeddings(model, texts), owners)


def sugarcrepe(
    model: SummaryModel, questions: Mapping[str, Sequence[WrongCaption]], track: Tracked
) -> dict[str, float]:
    """Percent right of each category and their mean; a tie is wrong."""
    paths = list(dict.fromkeys(question.path for of_category in questions.values() for question in of_category))
    seen = dict(zip(paths, image_embeddings(model, [partial(opened, path) for path in paths], track), strict=True))
    right: dict[str, list[bool]] = {}
    for category, of_category in questions.items():
        images = np.stack([seen[question.path] for question in of_category])
        own = (images * text_embeddings(model, [question.caption for question in of_category])).sum(1)
        other = (images * text_embeddings(model, [question.negative for question in of_category])).sum(1)
        right[category] = (own > other).tolist()
    return sugarcrepe_scores(right)


def winoground(model: SummaryModel, questions: Sequence[Crossed], track: Tracked) -> dict[str, float]:
    """Text, image and group score, in percent."""
    images = image_embeddings(
        model, [partial(opened, path) for question in questions for path in question.images], track
    )
    texts = text_embeddings(model, [text for question in questions for text in question.captions])
    pairs = (len(questions), 2, -1)
    return winoground_scores(np.einsum("qte,qie->qti", texts.reshape(pairs), images.reshape(pairs)))


def answered(
    model: SummaryModel, generator: Generator, asked: Sequence[AskedImage], score: str, track: Tracked
) -> Iterator[tuple[AskedImage, str, float]]:
    """Each question with the model's answer and its score, 0 to 1; `score` is a key of vqa.SCORES."""
    for start in track(range(0, len(asked), BATCH)):
        batch = asked[start : start + BATCH]
        tokens = model.compress([opened(each.path) for each in batch]).tokens
        texts = short_answers(generator, tokens, [each.question for each in batch])
        for each, text in zip(batch, texts, strict=True):
            yield each, text.strip(), SCORES[score](text, each.answers)
