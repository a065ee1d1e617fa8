"""Use case: find stored images by a text or by another image.

Knows nothing of HTTP.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from index.filters import Filter
from index.library import Hit, Library
from service.caller import Caller
from service.pictures import decode
from service.settings import Settings
from service.stopwatch import Stopwatch
from service.texts import checked_text
from service.worker import ModelWorker


@dataclass(frozen=True)
class Found:
    """Hits, best first, and the time of each stage."""

    hits: list[Hit]
    timings_ms: dict[str, float]


class Search:
    """Embeds what is searched for and asks the library for its nearest images."""

    def __init__(self, worker: ModelWorker, library: Library, decoders: Executor, settings: Settings) -> None:
        self._worker = worker
        self._library = library
        self._decoders = decoders
        self._settings = settings

    def by_text(self, text: str, limit: int, caller: Caller, where: Filter | None = None) -> Found:
        """The `limit` nearest images of those for which `where` holds.

        Raises InvalidInput, QueueFull, DeadlineExceeded, CallerGone.
        """
        watch = Stopwatch()
        text = checked_text(text, self._settings.max_question_chars, "search text")
        with self._worker.texts.places(1):
            (embedding,) = caller.wait([self._worker.embed_text(text)])
        watch.lap("embed")
        return self._nearest(embedding, limit, where, watch)

    def by_image(self, data: bytes, limit: int, caller: Caller, where: Filter | None = None) -> Found:
        """The `limit` nearest images; one that is stored finds itself. Raises PictureError too."""
        watch = Stopwatch()
        (known,) = self._library.find([hashlib.sha256(data).hexdigest()])
        embedding = known.embedding if known is not None else self._embed_image(data, caller)
        watch.lap("embed")
        return self._nearest(embedding, limit, where, watch)

    def _embed_image(self, data: bytes, caller: Caller) -> NDArray[np.float32]:
        settings = self._settings
        with self._worker.images.places(1):
            work = self._decoders.submit(
                decode, data, max_pixels=settings.max_image_pixels, max_side_px=settings.image_side_px
            )
            (decoded,) = caller.wait([work])
            (compressed,) = caller.wait(self._worker.compress([decoded.image]))
        return compressed.embedding

    def _nearest(self, embedding: NDArray[np.float32], limit: int, where: Filter | None, watch: Stopwatch) -> Found:
        (hits,) = self._library.search(embedding[np.newaxis], limit, where)
        watch.lap("search")
        return Found(hits, watch.timings_ms())
