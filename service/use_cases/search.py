"""Use case: find stored images by a text or by another image."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from compressor.text import normalise_text
from index.calibration import Calibration, Curve
from index.errors import WrongFingerprint
from index.filters import Filter
from index.library import Library
from index.model_info import ModelInfo
from index.ports import Hit, Record
from service.errors import InvalidInput
from service.settings import Settings
from service.use_cases.exif import taken_at
from service.use_cases.images import decode
from service.use_cases.picture_text import with_text
from service.worker.request_context import RequestContext, Stopwatch
from service.worker.worker import ModelWorker

Order = Literal["best", "newest", "taken"]


@dataclass(frozen=True)
class SearchHit:
    """An image that matches a query."""

    id: str
    score: float  # cosine
    # That the image matches the text; None without a calibration, and in a search by image.
    probability: float | None
    record: Record
    model_info: ModelInfo | None  # of its tokens
    by_text: bool = False  # every word of the query stands in the picture


@dataclass(frozen=True)
class SearchResult:
    """Hits, best first, and the time of each stage."""

    hits: list[SearchHit]
    timings_ms: dict[str, float]

    def page(self, offset: int, order: Order = "best") -> SearchResult:
        """The hits after the first `offset`, in another order if that is asked for.

        Newest: those stored last come first; taken: those taken last, those without a date behind.
        """
        hits = self.hits[offset:]
        if order == "newest":
            hits = sorted(hits, key=lambda hit: -hit.record.created_at_ms)
        elif order == "taken":
            hits = sorted(
                hits, key=lambda hit: taken_at(hit.record.metadata), reverse=True
            )
        return SearchResult(hits, self.timings_ms)


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

        Images in which every word of the text stands take turns with the nearest, which begin. Of
        the others those below `min_probability` are left out. Raises InvalidInput (also for a
        probability where there is no calibration), QueueFull, DeadlineExceeded, RequestCancelled.
        """
        watch = Stopwatch()
        text = self._checked(text)
        normalised = normalise_text(text)
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
        spelled = with_text(where, normalised)
        if spelled is not None:
            by_text = self._nearest(embedding, limit, spelled, curve)
            hits = _in_turn(hits, by_text)[:limit]
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

    def by_id(
        self,
        image_id: str,
        limit: int,
        where: Filter | None = None,
    ) -> SearchResult | None:
        """The `limit` images nearest to a stored one, without it; None for an unknown id.

        Raises index.errors.WrongFingerprint for an image of another model.
        """
        watch = Stopwatch()
        (record,) = self._library.get([image_id])
        if record is None:
            return None
        if record.fingerprint != self._library.fingerprint:
            raise WrongFingerprint(
                f"image {image_id} was compressed by another model than this library's"
            )
        watch.lap("lookup")
        # One more: the image finds itself, wherever it ranks among its equals.
        hits = self._nearest(record.embedding, limit + 1, where, curve=None)
        others = [hit for hit in hits if hit.id != image_id]
        watch.lap("search")
        return SearchResult(others[:limit], watch.timings_ms())

    def embed(
        self, texts: Sequence[str], context: RequestContext
    ) -> tuple[list[NDArray[np.float32]], dict[str, float]]:
        """An embedding (E,) of length 1 for each text, and the timings.

        Raises InvalidInput, QueueFull, DeadlineExceeded, RequestCancelled.
        """
        watch = Stopwatch()
        settings = self._settings
        if len(texts) > settings.queue_size:
            raise InvalidInput(
                f"At most {settings.queue_size} texts can be embedded at once."
            )
        checked = [self._checked(text) for text in texts]
        with self._worker.texts.slots(len(checked)):
            embeddings = context.wait(map(self._worker.embed_text, checked))
        watch.lap("embed")
        return embeddings, watch.timings_ms()

    def _checked(self, text: str) -> str:
        """The text, fit for the model. Raises InvalidInput."""
        text = checked_text(text, self._settings.max_question_chars, "search text")
        if not normalise_text(text):
            raise InvalidInput("The search text has nothing but punctuation.")
        return text

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


def _in_turn(
    nearest: Sequence[SearchHit], by_text: Sequence[SearchHit]
) -> list[SearchHit]:
    """The hits of both lists in turn, each image once."""
    spelled = {hit.id for hit in by_text}
    hits: dict[str, SearchHit] = {}
    for pair in zip_longest(nearest, by_text):
        for hit in filter(None, pair):
            hits.setdefault(hit.id, replace(hit, by_text=hit.id in spelled))
    return list(hits.values())


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
