"""Use case: find stored images by a text or by another image.

Knows nothing of HTTP.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from index.calibration import Calibration
from index.filters import Filter
from index.library import Library
from index.model_info import ModelInfo
from index.ports import Hit, Record
from service.errors import InvalidInput
from service.settings import Settings
from service.use_cases.images import decode
from service.worker.request_context import RequestContext, Stopwatch
from service.worker.worker import ModelWorker

# Checks on texts that people type.


def checked_text(text: str, max_chars: int, what: str) -> str:
    """The text without white space around it. Raises InvalidInput if it is empty or too long."""
    text = text.strip()
    if not text:
        raise InvalidInput(f"The {what} is empty.")
    if len(text) > max_chars:
        raise InvalidInput(f"The {what} has {len(text)} characters, the limit is {max_chars}.")
    return text


@dataclass(frozen=True)
class Match:
    """An image that was found."""

    id: str
    score: float  # cosine
    probability: (
        float | None
    )  # that it matches the text; None without a calibration, and for another picture
    record: Record
    maker: ModelInfo | None  # of its tokens


@dataclass(frozen=True)
class Found:
    """Matches, best first, and the time of each stage."""

    matches: list[Match]
    timings_ms: dict[str, float]


class Search:
    """Embeds what is searched for and asks the library for its nearest images."""

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
        caller: RequestContext,
        where: Filter | None = None,
        min_probability: float | None = None,
    ) -> Found:
        """The `limit` nearest images of those for which `where` holds, if they match with
        `min_probability`.

        Raises InvalidInput (also for a probability where there is no calibration), QueueFull,
        DeadlineExceeded, RequestCancelled.
        """
        watch = Stopwatch()
        text = checked_text(text, self._settings.max_question_chars, "search text")
        if min_probability is not None and self._calibration is None:
            raise InvalidInput(
                "The model has no calibration, so nothing is known of probabilities."
            )
        with self._worker.texts.places(1):
            (embedding,) = caller.wait([self._worker.embed_text(text)])
        watch.lap("embed")
        matches, maker = [], self._maker()
        for hit in self._nearest(embedding, limit, where):
            probability = (
                None if self._calibration is None else self._calibration.probability(hit.score)
            )
            if min_probability is None or (
                probability is not None and probability >= min_probability
            ):
                matches.append(Match(hit.id, hit.score, probability, hit.record, maker))
        watch.lap("search")
        return Found(matches, watch.timings_ms())

    def by_image(
        self, data: bytes, limit: int, caller: RequestContext, where: Filter | None = None
    ) -> Found:
        """The `limit` nearest images; one that is stored finds itself. Raises PictureError too."""
        watch = Stopwatch()
        (known,) = self._library.find([hashlib.sha256(data).hexdigest()])
        embedding = known.embedding if known is not None else self._embed_image(data, caller)
        watch.lap("embed")
        hits, maker = self._nearest(embedding, limit, where), self._maker()
        matches = [Match(hit.id, hit.score, None, hit.record, maker) for hit in hits]
        watch.lap("search")
        return Found(matches, watch.timings_ms())

    def _embed_image(self, data: bytes, caller: RequestContext) -> NDArray[np.float32]:
        settings = self._settings
        with self._worker.images.places(1):
            work = self._decoders.submit(
                decode,
                data,
                max_pixels=settings.max_image_pixels,
                max_side_px=settings.image_side_px,
            )
            (decoded,) = caller.wait([work])
            (compressed,) = caller.wait(self._worker.compress([decoded.image]))
        return compressed.embedding

    def _maker(self) -> ModelInfo | None:
        """Of all that a search can find."""
        return self._library.model_info(self._library.fingerprint)

    def _nearest(
        self, embedding: NDArray[np.float32], limit: int, where: Filter | None
    ) -> list[Hit]:
        (hits,) = self._library.search(embedding[np.newaxis], limit, where)
        return hits
