"""Answers about images from what a token codec keeps of them; each image is compressed once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from PIL.Image import Image

from compressor.fwd2bot.generator import whole_answers
from compressor.ports import (
    GenerationLimits,
    GenerationRequest,
    Generator,
    SummaryModel,
    Turn,
)
from index.codecs.scalar import TokenCodec


@dataclass(frozen=True)
class ImageQuestion:
    """A question about one or several images."""

    images: tuple[Image, ...]
    question: str
    max_tokens: int
    until: tuple[str, ...] = ()  # the answer ends before any of these


class KeptAnswers:
    """Keeps the encoded tokens of every image it has compressed."""

    def __init__(
        self, model: SummaryModel, generator: Generator, codec: TokenCodec
    ) -> None:
        self._model = model
        self._generator = generator
        self._codec = codec
        self._encoded: dict[bytes, bytes] = {}  # encoded tokens, by the image's hash

    def __call__(self, questions: Sequence[ImageQuestion]) -> list[str]:
        """An answer to each question. Raises CompressorError, index.errors.LibraryError."""
        keys = [[_hash(image) for image in question.images] for question in questions]
        self._compress_new(questions, keys)
        requests = [
            self._request(question, hashes)
            for question, hashes in zip(questions, keys, strict=True)
        ]
        limits = [GenerationLimits(question.max_tokens) for question in questions]
        answers = whole_answers(self._generator, requests, limits)
        return [
            _cut(answer, question.until).strip()
            for question, answer in zip(questions, answers, strict=True)
        ]

    def _compress_new(
        self, questions: Sequence[ImageQuestion], keys: Sequence[Sequence[bytes]]
    ) -> None:
        new: dict[bytes, Image] = {}
        for question, hashes in zip(questions, keys, strict=True):
            new.update(zip(hashes, question.images, strict=True))
        for key in new.keys() & self._encoded.keys():
            del new[key]
        if new:
            images = [image.convert("RGB") for image in new.values()]
            encoded = self._codec.encode(self._model.compress(images).tokens)
            self._encoded.update(zip(new, encoded, strict=True))

    def _request(
        self, question: ImageQuestion, keys: Sequence[bytes]
    ) -> GenerationRequest:
        shape = self._model.tokens_shape
        tokens = [self._codec.decode(self._encoded[key], *shape) for key in keys]
        return GenerationRequest(tokens, [Turn("user", question.question)])


def _hash(image: Image) -> bytes:
    header = f"{image.mode} {image.size} ".encode()
    return hashlib.sha256(header + image.tobytes()).digest()


def _cut(text: str, until: Sequence[str]) -> str:
    for end in filter(None, until):
        text = text.partition(end)[0]
    return text
