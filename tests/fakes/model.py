"""A deterministic fake summary model and generator, which see only colours.

The tokens hold the picture's colours, so that the generator really answers from the tokens.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from compressor.errors import ConstraintInvalid, RequestTooLong
from compressor.ports import (
    Choice,
    Constraint,
    GenerationLimits,
    GenerationRequest,
    JsonSchema,
    ModelDescription,
    Number,
    Piece,
    Summary,
)
from compressor.text import normalise_text
from index.calibration import AnswerCalibration, Calibration, Curve, QueryKind
from service.models import Models

Vectors = NDArray[np.float32]

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
        count = len(images)
        tokens = np.zeros((count, TOKEN_COUNT, TOKEN_DIM), np.float32)
        embeddings = np.zeros((count, EMBEDDING_SIZE), np.float32)
        for number, image in enumerate(images):
            shares = _colour_shares(image)
            tokens[number, :, : len(PALETTE)] = shares
            noise = _noise(image.tobytes())
            embeddings[number] = _unit(shares, noise)
        return Summary(tokens, embeddings)

    def embed_text(self, texts: Sequence[str]) -> Vectors:
        """See `SummaryModel`."""
        embeddings = np.zeros((len(texts), EMBEDDING_SIZE), np.float32)
        for number, text in enumerate(map(normalise_text, texts)):
            noise = _noise(text.encode())
            embeddings[number] = _unit(_colour_words(text), noise)
        return embeddings


class FakeGenerator:
    """Names the colours in the tokens; asked to count, it counts until it is stopped."""

    def generate(
        self, requests: Sequence[GenerationRequest], limits: Sequence[GenerationLimits]
    ) -> Iterator[Piece]:
        """See `Generator`."""
        prompts = [_prompt_tokens(request) for request in requests]
        if max(prompts) > CONTEXT_WORDS:
            raise RequestTooLong(f"The model reads {CONTEXT_WORDS} tokens at most.")
        for prompt, limit in zip(prompts, limits, strict=True):
            if prompt > (limit.max_prompt_tokens or CONTEXT_WORDS):
                raise RequestTooLong(
                    f"a prompt may have {limit.max_prompt_tokens} tokens, this one has {prompt}"
                )
        for request in requests:
            if request.constraint is not None:
                _formed(request, request.constraint)
        answers = [_answer(request) for request in requests]
        sure = [_largest_share(request) for request in requests]
        running = set(range(len(requests)))
        longest = max(limit.max_tokens for limit in limits)
        for step in range(1, longest + 1):
            for number in sorted(running):
                word = next(answers[number], None)
                if word is None:
                    yield Piece(
                        number, "", prompts[number], step - 1, "stop", sure[number]
                    )
                    running.discard(number)
                elif step == limits[number].max_tokens:
                    yield Piece(
                        number, word, prompts[number], step, "length", sure[number]
                    )
                    running.discard(number)
                else:
                    yield Piece(number, word, prompts[number], step, None, sure[number])


def fake_models(_settings: object) -> Models:
    """A model factory."""
    return Models(FakeSummaryModel(), FakeGenerator())


def made_up_calibration(threshold: float = 0.5) -> Calibration:
    """Curves for the fake model; an answer about a picture of one colour has 0.88."""
    queries = {
        kind: Curve.logistic(10.0 + number, -5.0)
        for number, kind in enumerate(QueryKind)
    }
    answers = AnswerCalibration(Curve.logistic(4.0, -2.0), threshold)
    return Calibration(FakeSummaryModel.fingerprint, queries, answers)


@dataclass
class Gate:
    """Blocks a model until the test opens the gate, and lets the test wait for the model."""

    opened: threading.Event = field(default_factory=threading.Event)
    arrivals: threading.Semaphore = field(
        default_factory=lambda: threading.Semaphore(0)
    )

    def pass_through(self) -> None:
        """Called by the model."""
        self.arrivals.release()
        assert self.opened.wait(30), "the test never opened the gate"

    def wait_for_arrival(self) -> None:
        """Called by the test: returns once the model is blocked."""
        assert self.arrivals.acquire(timeout=30), "the model never arrived"


class InterruptedModel(FakeSummaryModel):
    """Does something before each batch: waits at a gate, or raises."""

    def __init__(self, before: Callable[[Sequence[object]], None]) -> None:
        self._before = before

    def compress(self, images: Sequence[Image]) -> Summary:
        """See `SummaryModel`."""
        self._before(images)
        return super().compress(images)

    def embed_text(self, texts: Sequence[str]) -> Vectors:
        """See `SummaryModel`."""
        self._before(texts)
        return super().embed_text(texts)


class InterruptedGenerator(FakeGenerator):
    """Does something before each piece: waits at a gate, or raises; notes an early close."""

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


def held_after(tokens: int) -> tuple[Gate, InterruptedGenerator]:
    """A generator that waits at the gate once it has written so many tokens."""
    gate = Gate()

    def hold(piece: Piece) -> None:
        if piece.completion_tokens > tokens:
            gate.pass_through()

    return gate, InterruptedGenerator(hold)


def _colour_shares(image: Image) -> Vectors:
    """(6,) share of the pixels nearest to each colour of the palette."""
    small = image.resize((16, 16))
    pixels = np.asarray(small, dtype=np.float32)
    pixels = pixels.reshape(-1, 1, 3)
    palette = list(PALETTE.values())
    colours = np.array(palette, dtype=np.float32)
    distances = np.square(pixels - colours).sum(axis=-1)
    nearest = distances.argmin(axis=1)
    counts = np.bincount(nearest, minlength=len(PALETTE))
    return (counts / len(nearest)).astype(np.float32)


def _colour_words(text: str) -> Vectors:
    words = text.split()
    counts = [words.count(colour) for colour in PALETTE]
    return np.array(counts, dtype=np.float32)


def _noise(data: bytes) -> Vectors:
    """A small vector that depends on every byte, so that no two inputs embed alike."""
    digest = hashlib.sha256(data).digest()
    seed = int.from_bytes(digest[:8], "big")
    random = np.random.default_rng(seed)
    noise = random.normal(0, 0.01, EMBEDDING_SIZE)
    return noise.astype(np.float32)


def _unit(colours: Vectors, noise: Vectors) -> Vectors:
    vector = noise.copy()
    vector[: len(PALETTE)] += colours
    return vector / np.linalg.norm(vector)


def _prompt_tokens(request: GenerationRequest) -> int:
    summary_tokens = sum(map(len, request.images))
    texts = [turn.text for turn in request.conversation]
    return summary_tokens + len(" ".join(texts).split())


def _largest_share(request: GenerationRequest) -> float:
    """The fake is as sure as its first picture has one colour."""
    return float(request.images[0][0, : len(PALETTE)].max())


def _answer(request: GenerationRequest) -> Iterator[str]:
    if request.constraint is not None:
        yield from re.findall(r"\S+\s*", _formed(request, request.constraint))
        return
    if "count" in request.conversation[-1].text:
        yield from (f"{number} " for number in range(1, 100_000))
        return
    yield "I see"
    for colour in _colours(request):
        yield f" {colour}"
    yield "."


def _colours(request: GenerationRequest) -> list[str]:
    colours = list(PALETTE)
    return [colours[int(image[0, : len(colours)].argmax())] for image in request.images]


def _formed(request: GenerationRequest, constraint: Constraint) -> str:
    """The first choice that names a colour, how many images there are, or JSON."""
    colours = _colours(request)
    match constraint:
        case Choice(options):
            named = [text for text in options if text in colours]
            return (named or list(options))[0]
        case Number():
            return str(len(request.images))
        case JsonSchema(text):
            try:
                instance = _instance(json.loads(text), colours)
            except (ValueError, LookupError, TypeError, AttributeError) as error:
                raise ConstraintInvalid(f"not a schema: {text}") from error
            return json.dumps(instance, separators=(",", ":"))


def _instance(schema: dict[str, Any], colours: list[str]) -> Any:
    """A value that a plain schema allows."""
    if "enum" in schema:
        return next(filter(colours.__contains__, schema["enum"]), schema["enum"][0])
    match schema["type"]:
        case "object":
            properties = schema.get("properties", {})
            return {name: _instance(properties[name], colours) for name in properties}
        case "array":
            return [_instance(schema["items"], colours)]
        case "boolean":
            return True
        case "integer":
            return len(colours)
        case "string":
            return colours[0]
    raise ValueError(schema["type"])
