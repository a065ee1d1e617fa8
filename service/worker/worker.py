"""The worker: the one thread that loads, owns and runs the model, and schedules its queues."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from compressor.errors import ImageRefused
from compressor.ports import (
    GenerationLimits,
    GenerationRequest,
    Generator,
    SummaryModel,
)
from service.errors import (
    OUR_ERRORS,
    NotReady,
    PictureRefused,
    ServiceError,
    ShuttingDown,
)
from service.worker.answer_stream import AnswerQueue, AnswerStream
from service.worker.queues import BatchQueue, Job, WorkQueue

log = logging.getLogger(__name__)

SHUTTING_DOWN = "The service is shutting down."

Load = Callable[[], tuple[SummaryModel, Generator]]


@dataclass(frozen=True)
class Compressed:
    """What the first pass makes of one image."""

    tokens: NDArray[np.float32]  # (K, D)
    embedding: NDArray[np.float32]  # (E,)


class ModelWorker:
    """Accepts work from any thread and runs it on its own.

    Whoever waits for a result gets a value or an error.
    """

    def __init__(
        self,
        load: Load,
        *,
        queue_size: int,
        batch_size: int,
        observe_batch: Callable[[str, int], None],
        on_failure: Callable[[], None],
    ) -> None:
        self.images: BatchQueue[Image, Compressed] = BatchQueue(
            "images",
            self._compress,
            queue_size=queue_size,
            batch_size=batch_size,
            observe_batch=observe_batch,
        )
        self.texts: BatchQueue[str, NDArray[np.float32]] = BatchQueue(
            "texts",
            self._embed,
            queue_size=queue_size,
            batch_size=batch_size,
            observe_batch=observe_batch,
        )
        self.answers = AnswerQueue(
            lambda requests, limits: self._generator.generate(requests, limits),
            queue_size=queue_size,
            batch_size=batch_size,
        )
        self.queues: tuple[WorkQueue[Any], ...] = (
            self.texts,
            self.answers,
            self.images,
        )
        self.failure: Exception | None = None  # why there is no model
        self.loaded = threading.Event()  # the model is ready, or could not be loaded
        self._model: SummaryModel
        self._generator: Generator
        self._load = load
        self._on_failure = on_failure
        self._closing = False
        self._virtual_time_s = 0.0  # of the queue served last
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)

    def start(self) -> None:
        """Begins to load the model; returns at once."""
        self._thread.start()

    def close(self) -> None:
        """Ends after the present step; everyone still waiting gets ShuttingDown."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()

    def check_ready(self) -> None:
        """Raises NotReady or ShuttingDown unless the model is loaded and warm."""
        if self._closing:
            raise ShuttingDown(SHUTTING_DOWN)
        if self.failure is not None:
            raise NotReady("The model could not be loaded; see the log of the service.")
        if not self.loaded.is_set():
            raise NotReady("The model is loading.")

    def compress(self, images: Sequence[Image]) -> list[Future[Compressed]]:
        """First pass, a future for each image. The caller holds slots of `images`."""
        jobs: list[tuple[Image, Future[Compressed]]] = [
            (image, Future()) for image in images
        ]
        self._add(self.images, jobs)
        return [future for _, future in jobs]

    def embed_text(self, text: str) -> Future[NDArray[np.float32]]:
        """Embedding (E,) of a text. The caller holds a slot of `texts`."""
        future: Future[NDArray[np.float32]] = Future()
        self._add(self.texts, [(text, future)])
        return future

    def answer(
        self, request: GenerationRequest, limits: GenerationLimits
    ) -> AnswerStream:
        """Second pass. Takes a slot of `answers` and frees it at the stream's end.

        Raises QueueFull.
        """
        slot = ExitStack()
        slot.enter_context(self.answers.slots(1))
        stream = AnswerStream(request, limits, on_end=slot.close)
        try:
            self._add(self.answers, [stream])
        except ServiceError as error:
            stream.put(error)
            raise
        return stream

    def _add(self, queue: WorkQueue[Job], jobs: Sequence[Job]) -> None:
        with self._changed:
            self.check_ready()
            if not queue.has_work():
                # An idle queue earns no credit; otherwise one that rested for an hour would block
                # the others.
                queue.virtual_time_s = max(queue.virtual_time_s, self._virtual_time_s)
            queue.add(jobs)
            self._changed.notify()

    def _run(self) -> None:
        try:
            self._model, self._generator = self._load()
        except Exception as error:
            self._report(error)
            return
        self.loaded.set()
        while (queue := self._next_queue()) is not None:
            started = time.perf_counter()
            queue.step()
            spent_s = time.perf_counter() - started
            with self._changed:
                queue.virtual_time_s += spent_s
                queue.busy_s += spent_s
        for queue in self.queues:
            queue.fail(ShuttingDown(SHUTTING_DOWN))

    def _report(self, error: Exception) -> None:
        # The message of one of our errors says all, and the process ends with it.
        if not isinstance(error, OUR_ERRORS):
            log.error("The model could not be loaded.", exc_info=error)
        self.failure = error
        self.loaded.set()
        self._on_failure()

    def _next_queue(self) -> WorkQueue[Any] | None:
        """Waits for work; the queue with the least virtual time, or None when closing.

        Under load every kind of work gets the same share of the model's time: bulk ingest makes an
        answer take twice as long, but does not block it.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closing or self._with_work())
            if self._closing:
                return None
            queue = min(self._with_work(), key=lambda queue: queue.virtual_time_s)
            self._virtual_time_s = queue.virtual_time_s
            return queue

    def _with_work(self) -> list[WorkQueue[Any]]:
        return [queue for queue in self.queues if queue.has_work()]

    def _compress(self, images: Sequence[Image]) -> list[Compressed | Exception]:
        try:
            summary = self._model.compress(images)
        except ImageRefused as refusal:
            error = PictureRefused(
                f"The model cannot read this picture: {refusal.reason}"
            )
            error.__cause__ = refusal
            # The model names the first one that it refuses; the others are tried without it.
            before = images[: refusal.index]
            behind = images[refusal.index + 1 :]
            others = self._compress([*before, *behind]) if len(images) > 1 else []
            return [*others[: refusal.index], error, *others[refusal.index :]]
        pairs = zip(summary.tokens, summary.embeddings, strict=True)
        return [Compressed(tokens, embedding) for tokens, embedding in pairs]

    def _embed(self, texts: Sequence[str]) -> list[NDArray[np.float32]]:
        return list(self._model.embed_text(texts))
