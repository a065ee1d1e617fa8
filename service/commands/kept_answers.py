"""Answers about pictures from what a token codec keeps of them, each picture compressed once.

Knows nothing of libraries or HTTP.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from PIL.Image import Image

from compressor.fwd2bot.generator import whole_answers
from compressor.ports import GenerationLimits, GenerationRequest, Generator, SummaryModel, Turn
from index.codecs.scalar import TokenCodec


@dataclass(frozen=True)
class Asked:
    """A question about some pictures."""

    images: tuple[Image, ...]
    question: str
    max_tokens: int
    until: tuple[str, ...] = ()  # an answer ends before any of these


class KeptAnswers:
    """Keeps the tokens of every picture it has seen, as the codec wrote them."""

    def __init__(self, model: SummaryModel, generator: Generator, codec: TokenCodec) -> None:
        self._model, self._generator, self._codec = model, generator, codec
        self._kept: dict[bytes, bytes] = {}  # coded tokens by the picture's hash

    def __call__(self, asked: Sequence[Asked]) -> list[str]:
        """An answer to each question. Raises CompressorError, index.errors.LibraryError."""
        pictures = [[(_hash(image), image) for image in each.images] for each in asked]
        new = {key: image for some in pictures for key, image in some if key not in self._kept}
        if new:
            tokens = self._model.compress([image.convert("RGB") for image in new.values()]).tokens
            self._kept.update(zip(new, self._codec.encode(tokens), strict=True))
        shape = self._model.tokens_shape
        requests = [
            GenerationRequest(
                [self._codec.decode(self._kept[key], *shape) for key, _ in some],
                [Turn("user", each.question)],
            )
            for some, each in zip(pictures, asked, strict=True)
        ]
        texts = whole_answers(
            self._generator, requests, [GenerationLimits(each.max_tokens) for each in asked]
        )
        return [_ended(text, each.until).strip() for text, each in zip(texts, asked, strict=True)]


def _hash(image: Image) -> bytes:
    return hashlib.sha256(f"{image.mode} {image.size} ".encode() + image.tobytes()).digest()


def _ended(text: str, until: Sequence[str]) -> str:
    for end in filter(None, until):
        text = text.partition(end)[0]
    return text
