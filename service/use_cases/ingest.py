"""Use case: uploaded files become stored images.

Knows nothing of HTTP. Decoding runs on a pool of threads while the worker is busy with the chunk
before.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any, BinaryIO, Literal

from index.library import Library
from index.ports import NewImage, Picture, Record
from service.errors import FailedFile, InvalidInput, NoImageStored, PictureError
from service.settings import Settings
from service.use_cases.images import Decoded, decode, thumbnail
from service.worker.request_context import RequestContext, Stopwatch
from service.worker.worker import Compressed, ModelWorker


@dataclass(frozen=True)
class Upload:
    """One file as it came."""

    filename: str
    file: BinaryIO
    metadata: Mapping[str, Any]
    tokens: int | None = None  # how many of the first summary tokens are kept; all if None

    @cached_property
    def sha256(self) -> str:
        """Hex digest of the file's bytes."""
        digest = hashlib.sha256()
        self.file.seek(0)
        while block := self.file.read(1 << 20):
            digest.update(block)
        return digest.hexdigest()


@dataclass(frozen=True)
class Outcome:
    """What became of one file: a record, or an error."""

    filename: str
    sha256: str
    status: Literal["created", "exists", "failed"]
    record: Record | None = None
    error: PictureError | None = None


# What is kept of an upload beside the tokens, by the setting.
_KEPT: dict[str, Callable[[Decoded, bytes], Picture | None]] = {
    "none": lambda *_: None,
    "thumbnail": lambda decoded, _: thumbnail(decoded.image),
    "original": lambda decoded, data: Picture(decoded.media_type, data),
}


@dataclass(frozen=True)
class _Prepared:
    sha256: str
    upload: Upload
    decoded: Decoded
    picture: Picture | None


@dataclass(frozen=True)
class _Chunk:
    """Images that wait for their first pass."""

    images: list[_Prepared]
    results: list[Future[Compressed]]


class Ingest:
    """Decodes, compresses and stores uploads; content that is known already costs nothing."""

    def __init__(
        self,
        worker: ModelWorker,
        library: Library,
        decoders: Executor,
        settings: Settings,
        count: Callable[[str], None],
        budgets: Sequence[int],
    ) -> None:
        """`budgets` are the numbers of tokens that the model lets an image have."""
        self._worker = worker
        self._library = library
        self._decoders = decoders
        self._settings = settings
        self._count = count
        self._budgets = budgets

    def __call__(
        self, uploads: Sequence[Upload], caller: RequestContext
    ) -> tuple[list[Outcome], dict[str, float]]:
        """What became of each file, in order, and the timings. What is reported as created is durable.

        An image that is there with fewer tokens than are asked for is made anew, and keeps its
        metadata.

        Raises InvalidInput for a number of tokens that is none of the budgets, NoImageStored if
        every file failed, QueueFull before any work, DeadlineExceeded or RequestCancelled (chunks
        that were stored by then stay, and are found to exist when the upload is repeated).
        """
        watch = Stopwatch()
        self._check_tokens(uploads)
        digests = [upload.sha256 for upload in uploads]
        different = list(dict.fromkeys(digests))
        known = dict(zip(different, self._library.find(different), strict=True))
        asked = {
            sha256: upload.tokens or 1 for sha256, upload in zip(digests, uploads, strict=True)
        }
        records = {
            sha: record
            for sha, record in known.items()
            if record and record.token_count >= asked[sha]
        }
        fresh = {
            sha256: upload
            for sha256, upload in zip(digests, uploads, strict=True)
            if sha256 not in records
        }
        watch.lap("lookup")
        created, errors = self._store_fresh(fresh, records, caller, watch)
        outcomes = []
        for sha256, upload in zip(digests, uploads, strict=True):
            status: Literal["created", "exists", "failed"] = (
                "failed" if sha256 in errors else "exists"
            )
            if sha256 in created:
                created.remove(sha256)  # the same file a second time in one upload exists by then
                status = "created"
            self._count(status)
            outcomes.append(
                Outcome(upload.filename, sha256, status, records.get(sha256), errors.get(sha256))
            )
        if all(outcome.error is not None for outcome in outcomes):
            raise NoImageStored(
                [
                    FailedFile(each.filename, each.error)
                    for each in outcomes
                    if each.error is not None
                ]
            )
        return outcomes, watch.timings_ms()

    def _check_tokens(self, uploads: Sequence[Upload]) -> None:
        for tokens in {upload.tokens for upload in uploads} - {None, *self._budgets}:
            allowed = " or ".join(map(str, self._budgets))
            raise InvalidInput(
                f"Of an image this model can keep {allowed} summary tokens, not {tokens}."
            )

    def _store_fresh(
        self,
        fresh: Mapping[str, Upload],
        records: dict[str, Record],
        caller: RequestContext,
        watch: Stopwatch,
    ) -> tuple[set[str], dict[str, PictureError]]:
        """Adds the records of what is new; which of it was created here, and what failed, by sha256."""
        created: set[str] = set()
        errors: dict[str, PictureError] = {}
        in_work: deque[_Chunk] = deque()

        def store_oldest() -> None:
            chunk = in_work.popleft()
            results = caller.wait(chunk.results)
            watch.lap("model")
            stored = self._library.put(
                [
                    self._new_image(image, result)
                    for image, result in zip(chunk.images, results, strict=True)
                ]
            )
            for image, entry in zip(chunk.images, stored, strict=True):
                records[image.sha256] = entry.record
                if entry.created:
                    created.add(image.sha256)
            watch.lap("store")

        with self._worker.images.places(len(fresh)):
            try:
                files = iter(fresh.items())
                while chunk := list(islice(files, self._settings.batch_size)):
                    images, failed = self._decode(chunk, caller)
                    errors.update(failed)
                    watch.lap("decode")
                    if images:
                        results = self._worker.compress([image.decoded.image for image in images])
                        in_work.append(_Chunk(images, results))
                    if len(in_work) > 1:
                        store_oldest()
                while in_work:
                    store_oldest()
            finally:
                for waiting in in_work:
                    for result in waiting.results:
                        result.cancel()
        return created, errors

    def _decode(
        self, files: Sequence[tuple[str, Upload]], caller: RequestContext
    ) -> tuple[list[_Prepared], dict[str, PictureError]]:
        results = caller.wait([self._decoders.submit(self._prepare, *file) for file in files])
        images = [result for result in results if isinstance(result, _Prepared)]
        errors = {
            sha256: result
            for (sha256, _), result in zip(files, results, strict=True)
            if isinstance(result, PictureError)
        }
        return images, errors

    def _prepare(self, sha256: str, upload: Upload) -> _Prepared | PictureError:
        upload.file.seek(0)
        data = upload.file.read()
        settings = self._settings
        try:
            decoded = decode(
                data, max_pixels=settings.max_image_pixels, max_side_px=settings.image_side_px
            )
        except PictureError as error:
            return error
        return _Prepared(sha256, upload, decoded, _KEPT[settings.keep](decoded, data))

    def _new_image(self, image: _Prepared, result: Compressed) -> NewImage:
        return NewImage(
            sha256=image.sha256,
            fingerprint=self._library.fingerprint,
            tokens=result.tokens[: image.upload.tokens],
            embedding=result.embedding,
            width_px=image.decoded.width_px,
            height_px=image.decoded.height_px,
            metadata=image.upload.metadata,
            picture=image.picture,
        )
