"""The replicas that run the model: one class for each kind of work, without a word of Ray's.

Each loads the model, whole, on the thread that then owns it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from compressor.errors import ImageRefused
from compressor.ports import (
    GenerationLimits,
    GenerationRequest,
    Generator,
    Piece,
    SummaryModel,
)
from service.cluster.remote_model import ModelFacts, Refused
from service.errors import ModelFailed
from service.models import ModelFactory
from service.settings import Settings
from service.worker.request_context import RequestContext
from service.worker.worker import Compressed, ModelWorker

Item = TypeVar("Item")
Result = TypeVar("Result")
# Raises for the fingerprint of another model than the cluster's.
ClaimModel = Callable[[str], None]


class FirstPassReplica:
    """Makes summary tokens of images, and tells of the model."""

    def __init__(
        self, settings: Settings, make_models: ModelFactory, claim_model: ClaimModel
    ) -> None:
        self._thread = ThreadPoolExecutor(1, "model")
        models = self._thread.submit(make_models, settings).result()
        claim_model(models.summary.fingerprint)
        self._model = models.summary
        self._text_reader = models.text_reader
        self._facts = ModelFacts.of(models)

    async def facts(self) -> ModelFacts:
        """What the service has to know of the model."""
        return self._facts

    async def compress_batch(
        self, images: Sequence[Image]
    ) -> list[Compressed | Refused | Exception]:
        """First pass, a result for each image."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._thread, each_alone_on_failure, self._compress, images
        )

    def _compress(self, images: Sequence[Image]) -> list[Compressed | Refused]:
        try:
            summary = self._model.compress(images)
        except ImageRefused as refusal:
            if len(images) > 1:
                raise
            return [Refused(refusal.reason)]
        pairs = zip(summary.tokens, summary.embeddings, strict=True)
        return [Compressed(tokens, embedding) for tokens, embedding in pairs]

    async def read_text(self, image: Image) -> list[str]:
        """See TextReader."""
        assert self._text_reader is not None, "the facts say whether there is one"
        return await asyncio.to_thread(self._text_reader.read, image)


class TextEmbeddingReplica:
    """Embeds texts."""

    def __init__(
        self, settings: Settings, make_models: ModelFactory, claim_model: ClaimModel
    ) -> None:
        self._thread = ThreadPoolExecutor(1, "model")
        self._model = self._thread.submit(make_models, settings).result().summary
        claim_model(self._model.fingerprint)

    async def ready(self) -> None:
        """Returns at once: whoever waits for the answer waits for the model to be loaded."""

    async def embed_batch(
        self, texts: Sequence[str]
    ) -> list[NDArray[np.float32] | Exception]:
        """An embedding (E,) of each text."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._thread, each_alone_on_failure, self._embed, texts
        )

    def _embed(self, texts: Sequence[str]) -> list[NDArray[np.float32]]:
        return list(self._model.embed_text(texts))


class SecondPassReplica:
    """Answers from summary tokens; answers that wait are made together, and in turn."""

    def __init__(
        self, settings: Settings, make_models: ModelFactory, claim_model: ClaimModel
    ) -> None:
        fingerprints: list[str] = []

        def load() -> tuple[SummaryModel, Generator]:
            models = make_models(settings)
            fingerprints.append(models.summary.fingerprint)
            return models.summary, models.generator

        self._deadline_s = settings.deadline_s
        # One for each answer that waits for its next piece.
        self._readers = ThreadPoolExecutor(settings.queue_size, "answer")
        self._worker = ModelWorker(
            load,
            queue_size=settings.queue_size,
            batch_size=settings.batch_size,
            observe_batch=lambda *_: None,
            on_failure=lambda: None,
        )
        self._worker.start()
        self._worker.loaded.wait()
        if self._worker.failure is not None:
            raise self._worker.failure
        claim_model(*fingerprints)

    async def ready(self) -> None:
        """See TextEmbeddingReplica."""

    async def generate(
        self, request: GenerationRequest, limits: GenerationLimits
    ) -> AsyncIterator[Piece]:
        """The pieces of one answer; the last has a finish reason. Raises what the model raises."""
        loop = asyncio.get_running_loop()
        stream = self._worker.answer(request, limits)
        pieces = stream.read(RequestContext(self._deadline_s))
        try:
            while piece := await loop.run_in_executor(
                self._readers, next, pieces, None
            ):
                yield piece
        finally:
            # Also when the caller has gone in the middle.
            stream.cancel()


def each_alone_on_failure(
    run: Callable[[Sequence[Item]], Sequence[Result]], items: Sequence[Item]
) -> list[Result | Exception]:
    """A result or an error for each item: a bad one costs its neighbours nothing."""
    try:
        results: list[Result | Exception] = [*run(items)]
        if len(results) != len(items):
            raise ModelFailed(f"{len(results)} results for {len(items)} items.")  # noqa: TRY301
    except Exception as error:
        if len(items) == 1:
            return [error]
        results = []
        for item in items:
            alone: list[Result | Exception] = each_alone_on_failure(run, [item])
            results += alone
    return results
