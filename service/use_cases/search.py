"""Use case: find stored images by a text or by another image."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from compressor.text import normalise_text
from index.calibration import Calibration, Curve
from index.errors import InvalidVector, WrongFingerprint
from index.filters import Filter
from index.library import Library
from index.model_info import ModelInfo
from index.ports import Hit, Record
from index.vectors.arithmetic import unit
from service.errors import ImageNotFound, InvalidInput
from service.settings import Settings
from service.use_cases.exif import taken_at
from service.use_cases.images import Decode
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


@dataclass(frozen=True)
class ImageQuery:
    """Pictures, stored images and words to search with together.

    All parts are embeddings of length 1. The images are added and scaled to length 1; then the text
    is added with its weight, and they with the rest of 1.
    """

    pictures: Sequence[bytes]
    image_ids: Sequence[str] = ()
    text: str | None = None
    text_weight: float = 0.5  # 0 to 1


class Search:
    """Embeds a query and asks the library for the nearest images."""

    def __init__(
        self,
        worker: ModelWorker,
        library: Library,
        decoders: Executor,
        decode: Decode,
        settings: Settings,
        new_watch: Callable[[], Stopwatch],
        calibration: Calibration | None,
    ) -> None:
        self._new_watch = new_watch
        self._worker = worker
        self._library = library
        self._decoders = decoders
        self._decode = decode
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
        watch = self._new_watch()
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

    def by_images(
        self,
        query: ImageQuery,
        limit: int,
        context: RequestContext,
        where: Filter | None = None,
    ) -> SearchResult:
        """The `limit` nearest images, without those that the query names; a stored picture that is
        sent finds itself.

        Raises what `by_text` raises, PictureError, ImageNotFound and
        index.errors.WrongFingerprint.
        """
        watch = self._new_watch()
        ids = list(dict.fromkeys(query.image_ids))
        count = len(ids) + len(query.pictures)
        most = self._settings.max_files
        if not 0 < count <= most:
            raise InvalidInput(
                f"Send 1 to {most} pictures or ids of images; a text alone is searched by GET."
            )
        text = None if query.text is None else self._checked(query.text)
        vectors = [record.embedding for record in self._records(ids)]
        vectors += self._embed_images(query.pictures, context)
        if text is not None:
            with self._worker.texts.slots(1):
                (of_text,) = context.wait([self._worker.embed_text(text)])
            images = (1 - query.text_weight) * _direction(vectors)
            vectors = [images, query.text_weight * of_text]
        embedding = _direction(vectors)
        watch.lap("embed")
        # The curves are of scores of texts; they say nothing of the similarity of two images.
        # Some more: the images that are named would be among the nearest.
        hits = self._nearest(embedding, limit + len(ids), where, curve=None)
        others = [hit for hit in hits if hit.id not in ids]
        watch.lap("search")
        return SearchResult(others[:limit], watch.timings_ms())

    def by_id(
        self,
        image_id: str,
        limit: int,
        where: Filter | None = None,
    ) -> SearchResult | None:
        """The `limit` images nearest to a stored one, without it; None for an unknown id.

        Raises index.errors.WrongFingerprint for an image of another model.
        """
        watch = self._new_watch()
        (record,) = self._library.get([image_id])
        if record is None:
            return None
        self._check_fingerprint(record)
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
        watch = self._new_watch()
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

    def _records(self, ids: Sequence[str]) -> list[Record]:
        """Raises ImageNotFound or index.errors.WrongFingerprint."""
        records: list[Record] = []
        for id_, record in zip(ids, self._library.get(ids), strict=True):
            if record is None:
                raise ImageNotFound(f"There is no image {id_}.")
            self._check_fingerprint(record)
            records.append(record)
        return records

    def _check_fingerprint(self, record: Record) -> None:
        if record.fingerprint != self._library.fingerprint:
            raise WrongFingerprint(
                f"image {record.id} was compressed by another model than this library's"
            )

    def _embed_images(
        self, pictures: Sequence[bytes], context: RequestContext
    ) -> list[NDArray[np.float32]]:
        """An embedding (E,) of each picture; the model sees those that are not stored."""
        sha256s = [hashlib.sha256(data).hexdigest() for data in pictures]
        embeddings: dict[str, NDArray[np.float32]] = {}
        missing: dict[str, bytes] = {}
        found = self._library.find(sha256s)
        for sha256, data, stored in zip(sha256s, pictures, found, strict=True):
            if stored is None:
                missing[sha256] = data
            else:
                embeddings[sha256] = stored.embedding
        settings = self._settings
        with self._worker.images.slots(len(missing)):
            work = [
                self._decoders.submit(
                    self._decode,
                    data,
                    max_pixels=settings.max_image_pixels,
                    max_side_px=settings.image_side_px,
                )
                for data in missing.values()
            ]
            images = [decoded.image for decoded in context.wait(work)]
            compressed = context.wait(self._worker.compress(images))
        for sha256, result in zip(missing, compressed, strict=True):
            embeddings[sha256] = result.embedding
        return [embeddings[sha256] for sha256 in sha256s]

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


def _direction(vectors: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """The sum (E,) of vectors, scaled to length 1. Raises InvalidInput if they cancel out."""
    try:
        (direction,) = unit(np.sum(vectors, axis=0, keepdims=True))
    except InvalidVector as error:
        raise InvalidInput("The parts of the query cancel each other out.") from error
    return np.asarray(direction, dtype=np.float32)


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
