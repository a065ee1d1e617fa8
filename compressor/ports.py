"""The ports of the compressor: a model that makes summary tokens, a generator that reads them.

And a reader of the text in pictures.

Shapes: B batch, K summary tokens, D hidden size, E embedding size, Q queries.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image


@dataclass(frozen=True)
class Summary:
    """What one first pass makes of a batch of images."""

    # (B, K, D) summary tokens, in the input space of the language model
    tokens: NDArray[np.float32]
    embeddings: NDArray[np.float32]  # (B, E) retrieval embeddings, each of length 1


Mode = Literal[
    "adapters", "soft words", "soft words, one by one"
]  # how summary tokens are made


@dataclass(frozen=True)
class ModelDescription:
    """What a fingerprint stands for, and how many summary tokens of an image may be kept."""

    base_model: str
    mode: Mode
    # Numbers of first tokens that the second pass can read, rising; the last is K.
    budgets: tuple[int, ...]


@dataclass(frozen=True)
class Turn:
    """One turn of a conversation about stored images.

    The last turn of a request is the user's question.
    """

    role: Literal["user", "assistant"]
    text: str


@dataclass(frozen=True)
class Choice:
    """The answer is one of these texts; at least one, none of them empty."""

    options: tuple[str, ...]


@dataclass(frozen=True)
class Number:
    """The answer is a decimal number of at most 15 digits before the point and 6 behind it."""


@dataclass(frozen=True)
class JsonSchema:
    """The answer is JSON without white space between its parts, as a schema says."""

    text: str  # the schema, a JSON object


Constraint = Choice | Number | JsonSchema  # of what the answer may be


@dataclass(frozen=True)
class GenerationRequest:
    """Summary tokens of 1..n images, shown before the first turn, and the conversation so far."""

    images: Sequence[NDArray[np.float32]]  # each (K, D)
    conversation: Sequence[Turn]
    # An answer that ends with "stop" has this form; one that ends with "length" may be cut off.
    constraint: Constraint | None = None


@dataclass(frozen=True)
class GenerationLimits:
    """When to stop; decoding is greedy, so the same request gives the same answer."""

    max_tokens: int = 64
    # Of the prompt, summary tokens included; None leaves it to the model's context.
    max_prompt_tokens: int | None = None


@dataclass(frozen=True)
class Piece:
    """A piece of one answer.

    The last piece of each request has `finish_reason` set, and may have no text. So may pieces
    before the first token: they come while a long prompt is read.
    """

    request: int  # index into the requests given to `generate`
    text: str
    prompt_tokens: (
        int  # tokens the second pass read for this request, summary tokens included
    )
    completion_tokens: int  # tokens written for this request so far
    finish_reason: Literal["stop", "length"] | None = None
    # Geometric mean of the probabilities of the answer's tokens so far, the end token included;
    # under a constraint among the tokens that it allows. None where the generator does not know
    # them.
    mean_probability: float | None = None


class SummaryModel(Protocol):
    """Makes summary tokens and embeddings. Not thread-safe: one thread owns it."""

    @property
    def fingerprint(self) -> str:
        """Hash (hex) of base model, adapters and readout.

        Tokens and embeddings of two fingerprints never mix.
        """
        ...

    @property
    def description(self) -> ModelDescription:
        """Says in words what the fingerprint stands for."""
        ...

    @property
    def tokens_shape(self) -> tuple[int, int]:
        """(K, D) of the tokens of one image."""
        ...

    @property
    def embedding_size(self) -> int:
        """E."""
        ...

    def compress(self, images: Sequence[Image]) -> Summary:
        """First pass over RGB images of any size.

        Raises ImageRefused for a picture that the model does not read, else CompressorError.
        """
        ...

    def embed_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(Q, E) embeddings of length 1, comparable with those of images by inner product.

        Texts that `compressor.text.normalise_text` makes equal have the same embedding. A text
        longer than the model reads is embedded by its beginning.
        """
        ...


class Generator(Protocol):
    """Second pass: answers from summary tokens alone. Not thread-safe: one thread owns it."""

    def generate(
        self, requests: Sequence[GenerationRequest], limits: Sequence[GenerationLimits]
    ) -> Iterator[Piece]:
        """Answers all requests together, pieces interleaved as they come.

        Closing the iterator stops the work. Raises RequestTooLong, before the first piece, for a
        prompt over its limit or over the model's context, and ConstraintInvalid for a constraint
        that no answer can be held to.
        """
        ...


class PrefixStats(NamedTuple):
    """What a generator has reused of prompts that it read before."""

    tokens_read: int  # of all prompts
    tokens_reused: int  # of those, the ones whose keys and values had been kept
    held_bytes: int


@runtime_checkable
class KeepsPrefixes(Protocol):
    """A generator that keeps what it has computed of a prompt for the next that begins alike."""

    def prefix_stats(self) -> PrefixStats:
        """What it has reused so far; may be called on any thread."""
        ...


class TextReader(Protocol):
    """Reads the text in pictures (OCR). Thread-safe."""

    def read(self, image: Image) -> list[str]:
        """The lines of text in an RGB image of any size, top to bottom; none is empty.

        Raises TextReaderFailed.
        """
        ...
