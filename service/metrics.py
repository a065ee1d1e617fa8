"""Metrics with the prefix precis_, and wrappers that measure the ports of the compressor.

Each service has a registry of its own, so that two in one process do not mix.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from compressor.ports import (
    GenerationLimits,
    GenerationRequest,
    Generator,
    Piece,
    PrefixStats,
    Summary,
    SummaryModel,
)
from service.model_wrappers import WrappedSummaryModel

_SECONDS = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
    120.0,
)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """All metrics of a service."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.http_seconds = self._seconds(
            "http_request_seconds", "Time of a request.", ("method", "route", "status")
        )
        self.batch_size = Histogram(
            "precis_batch_size",
            "Items in one pass of the model.",
            ("work",),
            buckets=_SIZES,
            registry=self.registry,
        )
        self.first_pass_seconds = self._seconds(
            "first_pass_seconds", "Time of one first pass over a batch of images."
        )
        self.text_embedding_seconds = self._seconds(
            "text_embedding_seconds", "Time to embed one batch of texts."
        )
        self.piece_seconds = self._seconds(
            "second_pass_piece_seconds", "Time of the second pass for one piece."
        )
        self.first_piece_seconds = self._seconds(
            "first_piece_seconds", "Time of the second pass to an answer's first piece."
        )
        self.problems = self._counter(
            "problems", "Responses that were problems, by kind or status.", ("kind",)
        )
        self.stage_seconds = self._seconds(
            "stage_seconds",
            "Time of a stage of a request, its wait for the model included.",
            ("work", "stage"),
        )
        self.request_body_bytes = self._counter(
            "request_body_bytes", "Bytes of request bodies that were received."
        )
        self.generated_tokens = self._counter(
            "generated_tokens", "Tokens written by the second pass."
        )
        self.model_errors = self._counter(
            "model_errors", "Calls of the model that raised.", ("work",)
        )
        self.slots_taken = self._gauge(
            "queue_places_taken", "Items waiting for the model or in work.", ("work",)
        )
        self.upload_bytes_held = self._gauge(
            "upload_bytes_held", "Bytes of uploads that are being read or worked on."
        )
        self.images = self._gauge(
            "library_images", "Images stored in the library without a name."
        )
        self.ingested = self._counter(
            "ingested_images", "Uploaded files by what became of them.", ("status",)
        )

    def count_collections(self, image_counts: Callable[[], Mapping[str, int]]) -> None:
        """From now on a scrape also tells the number of images in each collection."""
        self.registry.register(_CollectionSizes(image_counts))

    def count_prefixes(self, stats: Callable[[], PrefixStats]) -> None:
        """From now on a scrape also tells what the second pass reuses of earlier prompts."""
        self.registry.register(_Prefixes(stats))

    def observe_stage(
        self, work: str, stage: str, started_ns: int, ended_ns: int
    ) -> None:
        """Notes the time of one stage of a request."""
        self.stage_seconds.labels(work, stage).observe((ended_ns - started_ns) / 1e9)

    def render(self) -> bytes:
        """All metrics in the Prometheus text format."""
        return generate_latest(self.registry)

    def _seconds(self, name: str, text: str, labels: Sequence[str] = ()) -> Histogram:
        return Histogram(
            f"precis_{name}", text, labels, buckets=_SECONDS, registry=self.registry
        )

    def _counter(self, name: str, text: str, labels: Sequence[str] = ()) -> Counter:
        return Counter(f"precis_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, labels: Sequence[str] = ()) -> Gauge:
        return Gauge(f"precis_{name}", text, labels, registry=self.registry)


class _CollectionSizes(Collector):
    """A gauge of each collection's images, asked for at every scrape: collections come and go."""

    def __init__(self, image_counts: Callable[[], Mapping[str, int]]) -> None:
        self._image_counts = image_counts

    def describe(self) -> Iterator[Metric]:
        """See `Collector`. Without it, registering would collect."""
        yield self._gauge()

    def collect(self) -> Iterator[Metric]:
        """See `Collector`."""
        gauge = self._gauge()
        for name, images in self._image_counts().items():
            gauge.add_metric([name], images)
        yield gauge

    def _gauge(self) -> GaugeMetricFamily:
        return GaugeMetricFamily(
            "precis_collection_images",
            "Images stored in a collection.",
            labels=["collection"],
        )


class _Prefixes(Collector):
    """What the second pass has reused of prompts read before, asked for at every scrape."""

    def __init__(self, stats: Callable[[], PrefixStats]) -> None:
        self._stats = stats

    def describe(self) -> Iterator[Metric]:
        """See `Collector`."""
        yield from self.collect()

    def collect(self) -> Iterator[Metric]:
        """See `Collector`."""
        stats = self._stats()
        yield CounterMetricFamily(
            "precis_prefix_tokens_read",
            "Tokens of prompts of the second pass.",
            value=stats.tokens_read,
        )
        yield CounterMetricFamily(
            "precis_prefix_tokens_reused",
            "Of those, tokens whose keys and values were kept from an earlier prompt.",
            value=stats.tokens_reused,
        )
        yield GaugeMetricFamily(
            "precis_prefix_cache_bytes",
            "Bytes of keys and values that are kept of earlier prompts.",
            value=stats.held_bytes,
        )


class MeteredSummaryModel(WrappedSummaryModel):
    """A summary model whose calls are timed."""

    def __init__(self, model: SummaryModel, metrics: Metrics) -> None:
        super().__init__(model)
        self._metrics = metrics

    def compress(self, images: Sequence[Image]) -> Summary:
        """See `SummaryModel`."""
        with (
            self._metrics.model_errors.labels("images").count_exceptions(),
            self._metrics.first_pass_seconds.time(),
        ):
            return super().compress(images)

    def embed_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See `SummaryModel`."""
        metrics = self._metrics
        with (
            metrics.model_errors.labels("texts").count_exceptions(),
            metrics.text_embedding_seconds.time(),
        ):
            return super().embed_text(texts)


class MeteredGenerator:
    """A generator whose pieces are timed and whose tokens are counted."""

    def __init__(self, generator: Generator, metrics: Metrics) -> None:
        self._generator = generator
        self._metrics = metrics

    def generate(
        self, requests: Sequence[GenerationRequest], limits: Sequence[GenerationLimits]
    ) -> Iterator[Piece]:
        """See `Generator`."""
        written = [0] * len(requests)
        self._metrics.batch_size.labels("answers").observe(len(requests))
        with self._metrics.model_errors.labels("answers").count_exceptions(Exception):
            began = started = time.perf_counter()
            for piece in self._generator.generate(requests, limits):
                now = time.perf_counter()
                self._metrics.piece_seconds.observe(now - started)
                if not written[piece.request]:
                    self._metrics.first_piece_seconds.observe(now - began)
                self._metrics.generated_tokens.inc(
                    piece.completion_tokens - written[piece.request]
                )
                written[piece.request] = piece.completion_tokens
                yield piece
                started = time.perf_counter()
