"""A deterministic summary model and generator that see colours only: enough to assert search order
and answers.

Know nothing of torch. Tokens carry the picture's colours, so that the generator answers from the
tokens alone.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from compressor.errors import RequestTooLong
from compressor.ports import GenerationLimits, GenerationRequest, ModelDescription, Piece, Summary
from service.models import Models

PALETTE = {
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "yellow": (255, 255, 0),
    "black": (0, 0, 0),
    "white": (255, 255, 255),
}
TOKEN_COUNT, TOKEN_DIM = 4, 16
BUDGETS = (1, 2, TOKEN_COUNT)
EMBEDDING_SIZE = 32
CONTEXT_WORDS = 500


class FakeSummaryModel:
    """Embeds a picture by the shares of its colours and a text by the colour words in it."""

    fingerprint = hashlib.sha256(b"fake colour model").hexdigest()
    description = ModelDescription("fake colours", "adapters", BUDGETS)
    tokens_shape = (TOKEN_COUNT, TOKEN_DIM)
    embedding_size = EMBEDDING_SIZE

    def compress(self, images: Sequence[Image]) -> Summary:
        """See `SummaryModel`."""
        shares = np.stack([_colour_shares(image) for image in images])
        tokens = np.zeros((len(images), TOKEN_COUNT, TOKEN_DIM), np.float32)
        tokens[:, :, : len(PALETTE)] = shares[:, np.newaxis]
        noise = [_noise(image.tobytes()) for image in images]
        return Summary(tokens, np.stack([_unit(a, b) for a, b in zip(shares, noise, strict=True)]))

    def embed_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See `SummaryModel`."""
        return np.stack([_unit(_colour_words(text), _noise(text.encode())) for text in texts])


class FakeGenerator:
    """Names the colours in the tokens; asked to count, it counts until it is stopped."""

    def generate(
        self, requests: Sequence[GenerationRequest], limits: Sequence[GenerationLimits]
    ) -> Iterator[Piece]:
        """See `Generator`."""
        prompts = [_prompt_tokens(request) for request in requests]
        if max(prompts) > CONTEXT_WORDS:
            raise RequestTooLong(f"The model reads {CONTEXT_WORDS} tokens at most.")
        answers = [_answer(request) for request in requests]
        running = set(range(len(requests)))
        for step in range(1, max(limit.max_tokens for limit in limits) + 1):
            for number in sorted(running):
                word = next(answers[number], None)
                reason = (
                    "stop"
                    if word is None
                    else "length"
                    if step == limits[number].max_tokens
                    else None
                )
                written = step - (word is None)
                yield Piece(number, word or "", prompts[number], written, reason)
                if reason is not None:
                    running.discard(number)


def fake_models(_settings: object) -> Models:
    """A model factory."""
    return Models(FakeSummaryModel(), FakeGenerator())


@dataclass
class Gate:
    """Holds a model back until the test opens the gate, and tells the test who has arrived."""

    opened: threading.Event = field(default_factory=threading.Event)
    arrivals: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def pass_through(self) -> None:
        """Called by the model."""
        self.arrivals.release()
        assert self.opened.wait(30), "the test never opened the gate"

    def wait_for_arrival(self) -> None:
        """Called by the test: returns once the model stands at the gate."""
        assert self.arrivals.acquire(timeout=30), "the model never arrived"


class InterruptedModel(FakeSummaryModel):
    """Does something before each batch: waits at a gate, or raises."""

    def __init__(self, before: Callable[[Sequence[object]], None]) -> None:
        self._before = before

    def compress(self, images: Sequence[Image]) -> Summary:
        """See `SummaryModel`."""
        self._before(images)
        return super().compress(images)

    def embed_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See `SummaryModel`."""
        self._before(texts)
        return super().embed_text(texts)


class InterruptedGenerator(FakeGenerator):
    """Does something before each piece: waits at a gate, or raises. Remembers whether it was closed
    early.
    """

    def __init__(self, before: Callable[[Piece], None]) -> None:
        self._before = before
        self.closed_early = threading.Event()

    def generate(
        self, requests: Sequence[GenerationRequest], limits: Sequence[GenerationLimits]
    ) -> Iterator[Piece]:
        """See `Generator`."""
        try:
            for piece in super().generate(requests, limits):
                self._before(piece)
                yield piece
        except GeneratorExit:
            self.closed_early.set()
            raise


def _colour_shares(image: Image) -> NDArray[np.float32]:
    """(6,) share of the pixels nearest to each colour of the palette."""
    pixels = np.asarray(image.resize((16, 16)), dtype=np.float32).reshape(-1, 1, 3)
    colours = np.array(list(PALETTE.values()), dtype=np.float32)
    nearest = ((pixels - colours) ** 2).sum(-1).argmin(1)
    return (np.bincount(nearest, minlength=len(PALETTE)) / len(nearest)).astype(np.float32)


def _colour_words(text: str) -> NDArray[np.float32]:
    words = text.lower().split()
    return np.array([words.count(colour) for colour in PALETTE], dtype=np.float32)


def _noise(data: bytes) -> NDArray[np.float32]:
    """A small vector that depends on every byte, so that no two inputs embed alike."""
    seed = int.from_bytes(hashlib.sha256(data).digest()[:8], "big")
    return np.random.default_rng(seed).normal(0, 0.01, EMBEDDING_SIZE).astype(np.float32)


def _unit(colours: NDArray[np.float32], noise: NDArray[np.float32]) -> NDArray[np.float32]:
    vector = noise.copy()
    vector[: len(PALETTE)] += colours
    return vector / np.linalg.norm(vector)


def _prompt_tokens(request: GenerationRequest) -> int:
    return sum(map(len, request.images)) + sum(
        len(turn.text.split()) for turn in request.conversation
    )


def _answer(request: GenerationRequest) -> Iterator[str]:
    if "count" in request.conversation[-1].text:
        yield from (f"{number} " for number in range(1, 100_000))
        return
    yield "I see"
    for image in request.images:
        colours = list(PALETTE)
        yield f" {colours[int(np.argmax(image[0, : len(colours)]))]}"
    yield "."
