"""Use case: find stored images by a text or by another image."""

from __future__ import annotations

import hashlib
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compressor.text import normalise_text
from index.calibration import Calibration, Curve
from index.filters import Filter
from index.library import Library
from index.model_info import ModelInfo
from index.ports import Hit, Record
from service.errors import InvalidInput
from service.settings import Settings
from service.use_cases.images import decode
from service.worker.request_context import RequestContext, Stopwatch
from service.worker.worker import ModelWorker


@dataclass(frozen=True)
class SearchHit:
    """An image that matches a query."""

    id: str
    score: float  # cosine
    # That the image matches the text; None without a calibration, and in a search by image.
    probability: float | None
    record: Record
    model_info: ModelInfo | None  # of its tokens


@dataclass(frozen=True)
class SearchResult:
    """Hits, best first, and the time of each stage."""

    hits: list[SearchHit]
    timings_ms: dict[str, float]


class Search:
    """Embeds a query and asks the library for the nearest images."""

    def __init__(
        self,
        worker: ModelWorker,
        library: Library,
        decoders: Executor,
        settings: Settings,
        calibration: Calibration | None,
    ) -> None:
        self._worker = worker
        self._library = library
        self._decoders = decoders
        self._settings = settings
        self._calibration = calibration

    def by_text(
        self,
        text: str,
        limit: int,
        context: RequestContext,
        where: Filter | None = None,
        min_probability: float | None = None,
    ) -> SearchResult:
        """The `limit` nearest of the images that pass the filter `where`.

        Images below `min_probability` are left out. Raises InvalidInput (also for a probability
        where there is no calibration), QueueFull, DeadlineExceeded, RequestCancelled.
        """
        watch = Stopwatch()
        text = checked_text(text, self._settings.max_question_chars, "search text")
        normalised = normalise_text(text)
        if not normalised:
            raise InvalidInput("The search text has nothing but punctuation.")
        calibration = self._calibration
        curve = None if calibration is None else calibration.curve_of(normalised)
        if min_probability is not None and curve is None:
            raise InvalidInput(
                "The model has no calibration, so hits have no probability."
            )
        with self._worker.texts.slots(1):
            (embedding,) = context.wait([self._worker.embed_text(text)])
        watch.lap("embed")
        hits = self._nearest(embedding, limit, where, curve)
        if min_probability is not None:
            hits = [hit for hit in hits if (hit.probability or 0.0) >= min_probability]
        watch.lap("search")
        return SearchResult(hits, watch.timings_ms())

    def by_image(
        self,
        data: bytes,
        limit: int,
        context: RequestContext,
        where: Filter | None = None,
    ) -> SearchResult:
        """The `limit` nearest images; a stored image finds itself.

        Raises what `by_text` raises, and PictureError.
        """
        watch = Stopwatch()
        (stored,) = self._library.find([hashlib.sha256(data).hexdigest()])
        embedding = (
            stored.embedding if stored is not None else self._embed_image(data, context)
        )
        watch.lap("embed")
        # The curves are of scores of texts; they say nothing of the similarity of two images.
        hits = self._nearest(embedding, limit, where, curve=None)
        watch.lap("search")
        return SearchResult(hits, watch.timings_ms())

    def _embed_image(self, data: bytes, context: RequestContext) -> NDArray[np.float32]:
        settings = self._settings
        with self._worker.images.slots(1):
            work = self._decoders.submit(
                decode,
                data,
                max_pixels=settings.max_image_pixels,
                max_side_px=settings.image_side_px,
            )
            (decoded,) = context.wait([work])
            (compressed,) = context.wait(self._worker.compress([decoded.image]))
        return compressed.embedding

    def _nearest(
        self,
        embedding: NDArray[np.float32],
        limit: int,
        where: Filter | None,
        curve: Curve | None,
    ) -> list[SearchHit]:
        (nearest,) = self._library.search(embedding[np.newaxis], limit, where)
        # A search finds images of the present model only.
        model_info = self._library.model_info(self._library.fingerprint)
        return [_search_hit(hit, model_info, curve) for hit in nearest]


def _search_hit(
    hit: Hit, model_info: ModelInfo | None, curve: Curve | None
) -> SearchHit:
    probability = None if curve is None else curve.probability(hit.score)
    return SearchHit(hit.id, hit.score, probability, hit.record, model_info)


def checked_text(text: str, max_chars: int, name: str) -> str:
    """The text without surrounding white space. Raises InvalidInput if it is empty or too long."""
    text = text.strip()
    if not text:
        raise InvalidInput(f"The {name} is empty.")
    if len(text) > max_chars:
        raise InvalidInput(
            f"The {name} has {len(text)} characters, the limit is {max_chars}."
        )
    return text
