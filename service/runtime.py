"""The composition root: makes everything that lives as long as the process, and takes it down again.

Knows nothing of HTTP.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from PIL import Image

from compressor.ports import GenerationLimits, GenerationRequest, Generator, SummaryModel, Turn
from index.library import Library, open_library
from service.ask import Ask
from service.engines import ModelFactory, Models
from service.ingest import Ingest
from service.metrics import MeteredGenerator, MeteredSummaryModel, Metrics
from service.search import Search
from service.settings import Settings
from service.worker import ModelWorker


@dataclass(frozen=True)
class Services:
    """What the routes call; there once the model is warm."""

    library: Library
    ingest: Ingest
    search: Search
    ask: Ask


class Runtime:
    """One service in one process: model, library, use cases, metrics."""

    def __init__(
        self, settings: Settings, make_models: ModelFactory, *, on_failure: Callable[[], None] = lambda: None
    ) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.worker = ModelWorker(
            self._load,
            queue_size=settings.queue_size,
            batch_size=settings.batch_size,
            observe_batch=lambda work, size: self.metrics.batch_size.labels(work).observe(size),
            on_failure=on_failure,
        )
        self._make_models = make_models
        self._decoders = ThreadPoolExecutor(settings.decode_threads, thread_name_prefix="decode")
        self._services: Services | None = None
        for lane in self.worker.lanes:
            self.metrics.places_taken.labels(lane.what).set_function(partial(getattr, lane, "places_taken"))

    @property
    def services(self) -> Services:
        """The use cases. Raises NotReady or ShuttingDown."""
        self.worker.check_ready()
        assert self._services is not None
        return self._services

    def start(self) -> None:
        """Begins to load; returns at once."""
        self.worker.start()

    def close(self) -> None:
        """Ends the worker, then what it worked for."""
        self.worker.close()
        self._decoders.shutdown(cancel_futures=True)
        if self._services is not None:
            self._services.library.close()

    def _load(self) -> Models:
        """Runs on the worker's thread: loads and warms the model, opens the library that fits it."""
        settings = self.settings
        model, generator = self._make_models(settings)
        _warm_up(model, generator)
        library = library_of(model, settings)
        self.metrics.images.set_function(lambda: library.stats().images)
        search = Search(self.worker, library, self._decoders, settings)
        self._services = Services(
            library,
            Ingest(
                self.worker,
                library,
                self._decoders,
                settings,
                lambda status: self.metrics.ingested.labels(status).inc(),
            ),
            search,
            Ask(self.worker, library, search, settings),
        )
        return MeteredSummaryModel(model, self.metrics), MeteredGenerator(generator, self.metrics)


def library_of(model: SummaryModel, settings: Settings) -> Library:
    """The library of the settings, for images of this model. Raises index.errors.IndexingError."""
    return open_library(
        settings.data_dir,
        fingerprint=model.fingerprint,
        token_shape=model.tokens_shape,
        embedding_size=model.embedding_size,
        codec=settings.codec,
        codec_state=settings.codec_state,
        store=settings.store,
        index=settings.index,
    )


def _warm_up(model: SummaryModel, generator: Generator) -> None:
    """One small call of each kind, so that the first caller does not pay for lazy initialisation."""
    summary = model.compress([Image.new("RGB", (64, 64), "grey")])
    model.embed_text(["a photo"])
    request = GenerationRequest([summary.tokens[0]], [Turn("user", "What is in the image?")])
    for _ in generator.generate([request], [GenerationLimits(max_tokens=1)]):
        pass
