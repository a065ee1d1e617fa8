"""The worker: the one thread that loads, owns and runs the model, and shares its time between the
kinds of work.

Knows nothing of HTTP, of stores or of how a model is loaded.
"""

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

from compressor.ports import GenerationLimits, GenerationRequest, Generator, SummaryModel
from service.errors import NotReady, ServiceError, ShuttingDown
from service.worker.answer_stream import AnswerLane, AnswerStream
from service.worker.queues import BatchLane, Job, WorkQueue

log = logging.getLogger(__name__)

Load = Callable[[], tuple[SummaryModel, Generator]]


@dataclass(frozen=True)
class Compressed:
    """What the first pass makes of one image."""

    tokens: NDArray[np.float32]  # (K, D)
    embedding: NDArray[np.float32]  # (E,)


class ModelWorker:
    """Takes work from any thread and does it on its own; everyone who waits gets a value or an error."""

    def __init__(
        self,
        load: Load,
        *,
        queue_size: int,
        batch_size: int,
        observe_batch: Callable[[str, int], None],
        on_failure: Callable[[], None],
    ) -> None:
        self.images: BatchLane[Image, Compressed] = BatchLane(
            "images",
            self._compress,
            queue_size=queue_size,
            batch_size=batch_size,
            observe_batch=observe_batch,
        )
        self.texts: BatchLane[str, NDArray[np.float32]] = BatchLane(
            "texts",
            self._embed,
            queue_size=queue_size,
            batch_size=batch_size,
            observe_batch=observe_batch,
        )
        self.answers = AnswerLane(
            lambda requests, limits: self._generator.generate(requests, limits),
            queue_size=queue_size,
            batch_size=batch_size,
        )
        self.lanes: tuple[WorkQueue[Any], ...] = (self.texts, self.answers, self.images)
        self.failure: Exception | None = None  # why there is no model
        self.loaded = threading.Event()  # the model is ready, or has failed
        self._model: SummaryModel
        self._generator: Generator
        self._load = load
        self._on_failure = on_failure
        self._closing = False
        self._served_s = (
            0.0  # share of the lane served last; nobody is charged less than that on arrival
        )
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)

    def start(self) -> None:
        """Begins to load the model; returns at once."""
        self._thread.start()

    def close(self) -> None:
        """Ends after the piece of work in hand; everyone still waiting gets ShuttingDown."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()

    def check_ready(self) -> None:
        """Raises NotReady or ShuttingDown unless the model is loaded and warm."""
        if self._closing:
            raise ShuttingDown("The service is shutting down.")
        if self.failure is not None:
            raise NotReady("The model could not be loaded; the service's log says why.")
        if not self.loaded.is_set():
            raise NotReady("The model is loading.")

    def compress(self, images: Sequence[Image]) -> list[Future[Compressed]]:
        """First pass, a future for each image. The caller holds `images.places`."""
        jobs: list[tuple[Image, Future[Compressed]]] = [(image, Future()) for image in images]
        self._add(self.images, jobs)
        return [future for _, future in jobs]

    def embed_text(self, text: str) -> Future[NDArray[np.float32]]:
        """Embedding (E,) of a text. The caller holds a place of `texts`."""
        future: Future[NDArray[np.float32]] = Future()
        self._add(self.texts, [(text, future)])
        return future

    def answer(self, request: GenerationRequest, limits: GenerationLimits) -> AnswerStream:
        """Second pass. Takes a place of `answers` that the stream gives back at its end. Raises QueueFull."""
        place = ExitStack()
        place.enter_context(self.answers.places(1))
        stream = AnswerStream(request, limits, on_over=place.close)
        try:
            self._add(self.answers, [stream])
        except ServiceError as error:
            stream.put(error)
            raise
        return stream

    def _add(self, lane: WorkQueue[Job], jobs: Sequence[Job]) -> None:
        with self._changed:
            self.check_ready()
            if not lane.has_work():
                # Credit does not build up while idle, or a lane that rested for an hour would block
                # the others.
                lane.share_s = max(lane.share_s, self._served_s)
            lane.add(jobs)
            self._changed.notify()

    def _run(self) -> None:
        try:
            self._model, self._generator = self._load()
        except Exception as error:
            log.exception("The model could not be loaded.")
            self.failure = error
            self.loaded.set()
            self._on_failure()
            return
        self.loaded.set()
        while (lane := self._next_lane()) is not None:
            started = time.perf_counter()
            lane.turn()
            spent_s = time.perf_counter() - started
            with self._changed:
                lane.share_s += spent_s
                lane.busy_s += spent_s
        for lane in self.lanes:
            lane.fail(ShuttingDown("The service is shutting down."))

    def _next_lane(self) -> WorkQueue[Any] | None:
        """Waits for work and gives the model to the lane that has had the least of it; None when closing.

        Under load every kind of work so gets the same share of the model's time: bulk ingest slows
        an answer down by half, it does not hold it up.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self._closing or any(lane.has_work() for lane in self.lanes)
            )
            if self._closing:
                return None
            lane = min(
                (lane for lane in self.lanes if lane.has_work()), key=lambda lane: lane.share_s
            )
            self._served_s = lane.share_s
            return lane

    def _compress(self, images: Sequence[Image]) -> list[Compressed]:
        summary = self._model.compress(images)
        return [Compressed(*pair) for pair in zip(summary.tokens, summary.embeddings, strict=True)]

    def _embed(self, texts: Sequence[str]) -> list[NDArray[np.float32]]:
        return list(self._model.embed_text(texts))
