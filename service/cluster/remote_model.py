"""The ports of the compressor over replicas in other processes. Thread-safe.

What the port says of a model holds for its replicas; these only carry requests to them.
"""

from __future__ import annotations

from collections.abc import Generator as PieceIterator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from compressor.errors import ImageRefused
from compressor.ports import (
    GenerationLimits,
    GenerationRequest,
    ModelDescription,
    Piece,
    Summary,
)
from index.files import store_errors, write_bytes
from service.models import Models
from service.worker.worker import Compressed


@dataclass(frozen=True)
class Refused:
    """An image that the model does not read."""

    reason: str


@dataclass(frozen=True)
class StateFile:
    """A small file beside the model's weights."""

    name: str
    data: bytes

    @classmethod
    def read(cls, path: Path | None) -> StateFile | None:
        """The file, None for no path."""
        return None if path is None else cls(path.name, path.read_bytes())

    def write(self, folder: Path) -> Path:
        """Writes the file into a folder, which it makes, under its name.

        Raises index.errors.StoreError.
        """
        path = folder / self.name
        with store_errors(f"{self.name} of the model cannot be kept"):
            folder.mkdir(parents=True, exist_ok=True)
            write_bytes(path, self.data)
        return path


@dataclass(frozen=True)
class ModelFacts:
    """What the service has to know of a model that it does not run itself."""

    fingerprint: str
    description: ModelDescription
    tokens_shape: tuple[int, int]
    embedding_size: int
    kept_tokens: int | None
    is_warm: bool
    reads_text: bool
    has_text_reader: bool
    codec_state: StateFile | None
    calibration: StateFile | None

    @classmethod
    def of(cls, models: Models) -> ModelFacts:
        """The facts of a model in this process."""
        summary = models.summary
        return cls(
            fingerprint=summary.fingerprint,
            description=summary.description,
            tokens_shape=summary.tokens_shape,
            embedding_size=summary.embedding_size,
            kept_tokens=models.kept_tokens,
            is_warm=models.is_warm,
            reads_text=models.reads_text,
            has_text_reader=models.text_reader is not None,
            codec_state=StateFile.read(models.codec_state),
            calibration=StateFile.read(models.calibration),
        )


class Replicas(Protocol):
    """Calls of the replicas of one deployment, any of which may answer. Thread-safe.

    A call that a dying replica left unanswered is made again elsewhere. Errors of ours are raised
    as they are; others as ModelFailed, or DeadlineExceeded.
    """

    def call_each(self, method: str, items: Sequence[Any]) -> list[Any]:
        """The result of a method for each item, all under way at a time."""
        ...

    def call(self, method: str) -> Any:
        """The result of a method without arguments, however long it takes."""
        ...

    def stream(self, method: str, *arguments: Any) -> PieceIterator[Any]:
        """What a method yields. Closing the iterator ends the call."""
        ...


class RemoteSummaryModel:
    """A SummaryModel whose two kinds of work have deployments of their own."""

    def __init__(
        self, facts: ModelFacts, first_pass: Replicas, text_embedding: Replicas
    ) -> None:
        self._facts = facts
        self._first_pass = first_pass
        self._text_embedding = text_embedding

    @property
    def fingerprint(self) -> str:
        """See SummaryModel."""
        return self._facts.fingerprint

    @property
    def description(self) -> ModelDescription:
        """See SummaryModel."""
        return self._facts.description

    @property
    def tokens_shape(self) -> tuple[int, int]:
        """See SummaryModel."""
        return self._facts.tokens_shape

    @property
    def embedding_size(self) -> int:
        """See SummaryModel."""
        return self._facts.embedding_size

    def compress(self, images: Sequence[Image]) -> Summary:
        """See SummaryModel. Raises ServiceError too."""
        results: list[Compressed | Refused] = self._first_pass.call_each(
            "compress", images
        )
        tokens = np.zeros((len(images), *self.tokens_shape), np.float32)
        embeddings = np.zeros((len(images), self.embedding_size), np.float32)
        for number, result in enumerate(results):
            if isinstance(result, Refused):
                raise ImageRefused(number, result.reason)
            tokens[number] = result.tokens
            embeddings[number] = result.embedding
        return Summary(tokens, embeddings)

    def embed_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See SummaryModel. Raises ServiceError too."""
        embeddings = np.zeros((len(texts), self.embedding_size), np.float32)
        for number, embedding in enumerate(
            self._text_embedding.call_each("embed_text", texts)
        ):
            embeddings[number] = embedding
        return embeddings


class RemoteGenerator:
    """A Generator whose requests go to a deployment, which answers them together."""

    def __init__(self, second_pass: Replicas) -> None:
        self._second_pass = second_pass

    def generate(
        self, requests: Sequence[GenerationRequest], limits: Sequence[GenerationLimits]
    ) -> Iterator[Piece]:
        """See Generator. Raises ServiceError too."""
        streams: dict[int, PieceIterator[Piece]] = {}
        try:
            for number, (request, limit) in enumerate(
                zip(requests, limits, strict=True)
            ):
                streams[number] = self._second_pass.stream("generate", request, limit)
            while streams:
                for number, stream in list(streams.items()):
                    piece = next(stream, None)
                    if piece is None:
                        del streams[number]
                    else:
                        yield replace(piece, request=number)
        finally:
            for stream in streams.values():
                stream.close()


class RemoteTextReader:
    """A TextReader that runs where the first pass does."""

    def __init__(self, first_pass: Replicas) -> None:
        self._first_pass = first_pass

    def read(self, image: Image) -> list[str]:
        """See TextReader. Raises ServiceError too."""
        lines: list[str]
        (lines,) = self._first_pass.call_each("read_text", [image])
        return lines


def remote_models(
    first_pass: Replicas,
    text_embedding: Replicas,
    second_pass: Replicas,
    folder: Path,
) -> Models:
    """The model behind three deployments, once a replica of each has loaded it.

    `folder` keeps the model's small files, which libraries read whenever a collection is opened.
    Raises index.errors.StoreError where they cannot be written.
    """
    facts: ModelFacts = first_pass.call("facts")
    # Other calls have a deadline, which a model that is being loaded would miss.
    for replicas in (text_embedding, second_pass):
        replicas.call("ready")
    return Models(
        RemoteSummaryModel(facts, first_pass, text_embedding),
        RemoteGenerator(second_pass),
        codec_state=_written(facts.codec_state, folder),
        calibration=_written(facts.calibration, folder),
        text_reader=RemoteTextReader(first_pass) if facts.has_text_reader else None,
        reads_text=facts.reads_text,
        kept_tokens=facts.kept_tokens,
        is_warm=facts.is_warm,
    )


def _written(file: StateFile | None, folder: Path) -> Path | None:
    return None if file is None else file.write(folder)
