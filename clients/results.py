"""What the service answers, as typed values.

Knows the wire's names only; members that a newer service adds are ignored.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Tokens:
    """The summary tokens kept of an image."""

    count: int  # K, or as many of the first as were asked for
    dim: int  # D
    codec: str
    bytes: int  # as stored


@dataclass(frozen=True)
class Image:
    """A stored image."""

    id: str
    sha256: str  # of the uploaded bytes
    fingerprint: str  # of the model that compressed it
    tokens: Tokens
    width_px: int
    height_px: int
    created_at_ms: int  # Unix time
    metadata: dict[str, Any]
    model: str | None = field(
        default=None, kw_only=True
    )  # name of the model that compressed it, if it is known
    mode: str | None = field(default=None, kw_only=True)  # how that model made the tokens, in words


@dataclass(frozen=True)
class StoredImage(Image):
    """A file of an upload whose image is stored."""

    status: Literal["created", "exists"]
    filename: str


@dataclass(frozen=True)
class FileProblem:
    """Why one file of an upload was not stored."""

    type: str
    title: str
    status: int
    detail: str


@dataclass(frozen=True)
class FailedFile:
    """A file of an upload that was not stored."""

    status: Literal["failed"]
    filename: str
    error: FileProblem


@dataclass(frozen=True)
class Upload:
    """What became of each file of an upload, in order."""

    images: list[StoredImage | FailedFile]


@dataclass(frozen=True)
class Page:
    """A part of the list of images, oldest first."""

    images: list[Image]
    next_cursor: str | None


@dataclass(frozen=True)
class Hit(Image):
    """An image that was found."""

    score: float  # cosine of its embedding and the query's


@dataclass(frozen=True)
class SearchResult:
    """Images found, best first."""

    results: list[Hit]


@dataclass(frozen=True)
class Source:
    """An image that an answer was made from."""

    id: str
    score: float | None  # cosine to the question; None for an image that the caller named
    model: str | None = None  # as of an Image
    mode: str | None = None


@dataclass(frozen=True)
class Usage:
    """Tokens that the second pass read and wrote."""

    prompt_tokens: int  # summary tokens included
    completion_tokens: int


@dataclass(frozen=True)
class Answer:
    """An answer and what it was made from."""

    answer: str
    images: list[Source]
    finish_reason: Literal["stop", "length"]
    usage: Usage
    timings_ms: dict[str, float]


@dataclass(frozen=True)
class Piece:
    """A piece of an answer, in a stream."""

    text: str
