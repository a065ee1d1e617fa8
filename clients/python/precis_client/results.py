"""The service's responses as typed values. Members that a newer service adds are ignored."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Tokens:
    """The summary tokens kept of an image."""

    count: int  # K, or the smaller number that was asked for
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
    # Name of the model that compressed it, and how that model makes tokens; None if unknown.
    model: str | None = field(default=None, kw_only=True)
    mode: str | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class Word:
    """A word that a summary token is a mixture of."""

    text: str
    weight: float


@dataclass(frozen=True)
class DetailedImage(Image):
    """A stored image with its summary tokens in words."""

    # The words of each token, the heaviest first; None for a codec without words.
    words: list[list[Word]] | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class NearDuplicate:
    """A stored image that is nearly the same as a new one."""

    id: str
    score: float  # cosine of the two embeddings


@dataclass(frozen=True)
class StoredImage(Image):
    """A file of an upload whose image is stored."""

    status: Literal["created", "exists"]
    filename: str
    # What of the file could not be read beside the picture.
    notes: list[str] = field(default_factory=list, kw_only=True)
    # Of a new image: others stored that are nearly the same, nearest first.
    near_duplicates: list[NearDuplicate] = field(default_factory=list, kw_only=True)


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
    """The outcome for each file of an upload, in order."""

    images: list[StoredImage | FailedFile]


@dataclass(frozen=True)
class Stored:
    """The outcome of an upload of which every file was stored."""

    images: list[StoredImage]


@dataclass(frozen=True)
class JobFile:
    """A file of a job."""

    filename: str
    status: Literal["waiting", "created", "exists", "failed", "cancelled"]
    id: str | None  # of the image, once it is stored
    error: FileProblem | None  # of a file that failed


@dataclass(frozen=True)
class JobSummary:
    """Work on files that goes on after its answer, without the files."""

    id: str
    state: Literal["waiting", "running", "done", "cancelled"]
    path: str | None  # of an import
    created_at_ms: int  # Unix time
    started_at_ms: int | None
    finished_at_ms: int | None
    counts: dict[str, int]  # of files by status
    passed_over: dict[str, int]  # what an import has left out of a folder, by reason
    files_per_s: float | None  # None before the first files
    remaining_s: float | None  # None while it is unknown


@dataclass(frozen=True)
class Job(JobSummary):
    """A job with its files."""

    files: list[JobFile]  # of an import those that failed


@dataclass(frozen=True)
class JobsPage:
    """A part of the list of jobs, newest first."""

    jobs: list[JobSummary]
    next_cursor: str | None


@dataclass(frozen=True)
class Page:
    """A part of the list of images, oldest first."""

    images: list[Image]
    next_cursor: str | None


@dataclass(frozen=True)
class Hit(Image):
    """An image that matches a query."""

    score: float  # cosine of its embedding and the query's
    # That the image matches the text; None if the service's model has no calibration.
    probability: float | None = field(default=None, kw_only=True)
    # Every word of the query stands in the picture.
    by_text: bool = field(default=False, kw_only=True)


@dataclass(frozen=True)
class SearchResult:
    """Hits, best first."""

    results: list[Hit]


@dataclass(frozen=True)
class Source:
    """An image that an answer is based on."""

    id: str
    score: float | None  # cosine to the question; None for an image that was named
    model: str | None = None  # as of an Image
    mode: str | None = None
    # Of a question to the whole library: the answer of this image by itself, and whether it is that
    # of all together. None where the image could not be asked; `cited` also where the answer of all
    # is that the model cannot tell.
    answer: str | None = None
    confidence: float | None = None
    cited: bool | None = None


@dataclass(frozen=True)
class Usage:
    """Tokens that the second pass read and generated."""

    prompt_tokens: int  # summary tokens included
    completion_tokens: int


@dataclass(frozen=True)
class Answer:
    """An answer and the images it is based on."""

    answer: str
    images: list[Source]
    finish_reason: Literal["stop", "length"]
    usage: Usage
    timings_ms: dict[str, float]
    # That the answer is right, from 0 to 1; None if the service cannot tell.
    confidence: float | None = None
    unsure: bool | None = None  # whether that is below the model's measured threshold
    # What answered: the model, the model with the text in the pictures ("ocr"), or a rule.
    source: str = "model"
    query: str | None = (
        None  # what was searched for, of a question to the whole library
    )


@dataclass(frozen=True)
class Embeddings:
    """Texts as vectors of length 1, to compare with those of images of the same fingerprint."""

    embeddings: list[list[float]]  # of E values each
    fingerprint: str  # of the model that made them


@dataclass(frozen=True)
class Collection:
    """A library of its own in the service."""

    name: str


@dataclass(frozen=True)
class Collections:
    """All collections, in alphabetical order."""

    collections: list[Collection]


@dataclass(frozen=True)
class Health:
    """That the service is ready."""

    status: Literal["alive", "ready"]


@dataclass(frozen=True)
class Model:
    """A name by which the service knows its model."""

    id: str


@dataclass(frozen=True)
class Models:
    """The names of the service's model."""

    data: list[Model]


@dataclass(frozen=True)
class Piece:
    """A piece of an answer, in a stream."""

    text: str
