"""Runs data sets of images, texts and questions through the two ports and scores what comes back.

Knows nothing of files' formats. Shapes: N images, M texts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from compressor.evaluation.compositional import Crossed, WrongCaption, sugarcrepe_scores, winoground_scores
from compressor.evaluation.karpathy import CaptionedImage, both_ways
from compressor.evaluation.usable import opener
from compressor.evaluation.vqa import SCORES, AskedImage
from compressor.ports import GenerationLimits, GenerationRequest, Generator, SummaryModel, Turn

_T = TypeVar("_T")
Tracked = Callable[[Sequence[_T]], Iterable[_T]]  # shows how far a long loop has come
BATCH = 16
MAX_ANSWER_TOKENS = 16


def captioned(model: SummaryModel, images: Sequence[CaptionedImage], track: Tracked[int]) -> dict[str, float]:
    """Recall both ways, in percent."""
    texts = [caption for image in images for caption in image.captions]
    owners = [number for number, image in enumerate(images) for _ in image.captions]
    seen = _embeddings(model, [opener(image.path) for image in images], track)
    return both_ways(seen, _texts(model, texts), owners)


def sugarcrepe(
    model: SummaryModel, questions: Mapping[str, Sequence[WrongCaption]], track: Tracked[int]
) -> dict[str, float]:
    """Percent right of each category and their mean; a tie is wrong."""
    paths = list(dict.fromkeys(question.path for of_category in questions.values() for question in of_category))
    seen = dict(zip(paths, _embeddings(model, [opener(path) for path in paths], track), strict=True))
    right: dict[str, list[bool]] = {}
    for category, of_category in questions.items():
        images = np.stack([seen[question.path] for question in of_category])
        own = (images * _texts(model, [question.caption for question in of_category])).sum(1)
        other = (images * _texts(model, [question.negative for question in of_category])).sum(1)
        right[category] = (own > other).tolist()
    return sugarcrepe_scores(right)


def winoground(model: SummaryModel, questions: Sequence[Crossed], track: Tracked[int]) -> dict[str, float]:
    """Text, image and group score, in percent."""
    images = _embeddings(model, [opener(path) for question in questions for path in question.images], track)
    texts = _texts(model, [text for question in questions for text in question.captions])
    pairs = (len(questions), 2, -1)
    return winoground_scores(np.einsum("qte,qie->qti", texts.reshape(pairs), images.reshape(pairs)))


def answered(
    model: SummaryModel, generator: Generator, asked: Sequence[AskedImage], score: str, track: Tracked[int]
) -> Iterator[tuple[AskedImage, str, float]]:
    """Each question with the model's answer and its score, 0 to 1; `score` is a key of vqa.SCORES."""
    for start in track(range(0, len(asked), BATCH)):
        batch = asked[start : start + BATCH]
        tokens = model.compress([opener(each.path)() for each in batch]).tokens
        requests = [
            GenerationRequest([vectors], [Turn("user", each.question)])
            for vectors, each in zip(tokens, batch, strict=True)
        ]
        texts = [""] * len(batch)
        for piece in generator.generate(requests, [GenerationLimits(MAX_ANSWER_TOKENS)] * len(batch)):
            texts[piece.request] += piece.text
        for each, text in zip(batch, texts, strict=True):
            yield each, text.strip(), SCORES[score](text, each.answers)


def _embeddings(
    model: SummaryModel, open_images: Sequence[Callable[[], Image.Image]], track: Tracked[int]
) -> NDArray[np.float32]:
    """(N, E), a batch of images open at a time."""
    parts = [
        model.compress([open_image() for open_image in open_images[start : start + BATCH]]).embeddings
        for start in track(range(0, len(open_images), BATCH))
    ]
    return np.concatenate(parts)


def _texts(model: SummaryModel, texts: Sequence[str]) -> NDArray[np.float32]:
    """(M, E); texts of about one length share a batch, which leaves little padding."""
    order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
    numbers = iter(order)
    embeddings = np.empty((len(texts), model.embedding_size), dtype=np.float32)
    while batch := list(islice(numbers, 4 * BATCH)):
        embeddings[batch] = model.embed_text([texts[number] for number in batch])
    return embeddings
