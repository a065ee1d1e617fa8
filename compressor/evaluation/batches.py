"""Many images, texts and questions through the two ports, a batch at a time.

Knows nothing of scores. Shapes: N images, M texts, D hidden size, E embedding size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from compressor.ports import GenerationLimits, GenerationRequest, Generator, SummaryModel, Turn
from compressor.whole_answers import whole_answers

BATCH = 16
MAX_ANSWER_TOKENS = 16
Tracked = Callable[[Sequence[int]], Iterable[int]]  # shows how far a long loop has come


def image_embeddings(
    model: SummaryModel, openers: Sequence[Callable[[], Image]], track: Tracked = iter
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


def short_answers(generator: Generator, tokens: Sequence[NDArray[np.float32]], questions: Sequence[str]) -> list[str]:
    """An answer to each question about the image of its tokens (any number, D)."""
    requests = [
        GenerationRequest([vectors], [Turn("user", question)])
        for vectors, question in zip(tokens, questions, strict=True)
    ]
    return whole_answers(generator, requests, [GenerationLimits(MAX_ANSWER_TOKENS)] * len(requests))
