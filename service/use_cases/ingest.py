"""Use case: uploaded files become stored images.

A pool of threads, each with a process of its own, decodes a chunk of files while the model
compresses the chunk before it.
"""

from __future__ import annotations

import hashlib
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any, BinaryIO, Literal

from PIL.Image import Image

from compressor.errors import TextReaderFailed
from compressor.ports import TextReader
from index.errors import InvalidTokens, InvalidVector, LibraryError
from index.library import Library
from index.ports import NewImage, Picture, Record
from service.errors import (
    DeadlineExceeded,
    FailedFile,
    FileFailed,
    InvalidInput,
    NoImageStored,
    PictureError,
    RequestCancelled,
    ShuttingDown,
)
from service.settings import Settings
from service.use_cases.exif import EXIF
from service.use_cases.images import Decode, Decoded, thumbnail
from service.use_cases.near_duplicates import NearDuplicate, near_duplicates
from service.use_cases.picture_text import text_metadata
from service.worker.request_context import RequestContext, Stopwatch
from service.worker.worker import Compressed, ModelWorker

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Upload:
    """One file as it was sent."""

    filename: str
    file: BinaryIO
    metadata: Mapping[str, Any]
    tokens: int | None = None  # how many of the first summary tokens to keep

    @cached_property
    def sha256(self) -> str:
        """Hex digest of the file's bytes."""
        digest = hashlib.sha256()
        self.file.seek(0)
        while block := self.file.read(1 << 20):
            digest.update(block)
        return digest.hexdigest()


@dataclass(frozen=True)
class Stored:
    """The outcome for a file whose image is stored, now or before."""

    filename: str
    record: Record
    status: Literal["created", "exists"]
    notes: Sequence[str] = ()  # of what could not be read beside the picture
    near_duplicates: Sequence[NearDuplicate] = ()  # of an image that is created


@dataclass(frozen=True)
class Failed:
    """The outcome for a file that cannot be stored."""

    filename: str
    sha256: str
    error: PictureError
    status: Literal["failed"] = "failed"


Outcome = Stored | Failed

# Key in the metadata: the values of a deep grey picture that count as black and white.
VALUE_RANGE = "value_range"
# Errors that end a request, whatever becomes of its single files.
_ENDS = (DeadlineExceeded, RequestCancelled, ShuttingDown)
# Errors of one image among those that the library is to store together.
_BAD_IMAGE = (InvalidTokens, InvalidVector)

# The picture kept of an upload beside its tokens, by the setting.
_KEPT_PICTURE: dict[str, Callable[[Decoded, bytes], Picture | None]] = {
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
    metadata: Mapping[str, Any]  # the upload's, and what was found in the picture


@dataclass(frozen=True)
class _Chunk:
    """Images whose first pass has been queued."""

    images: list[_Prepared]
    results: list[Future[Compressed]]


@dataclass(frozen=True)
class _Progress:
    """What is known of an upload's files so far, by sha256."""

    records: dict[str, Record]
    created: set[str] = field(default_factory=set)
    notes: dict[str, Sequence[str]] = field(default_factory=dict)
    errors: dict[str, PictureError] = field(default_factory=dict)
    # Of the errors above, the unexpected ones, which the client is not told.
    causes: list[Exception] = field(default_factory=list)


class Ingest:
    """Decodes, compresses and stores uploads; content that is stored already costs no work."""

    def __init__(
        self,
        worker: ModelWorker,
        library: Library,
        decoders: Executor,
        decode: Decode,
        settings: Settings,
        new_watch: Callable[[], Stopwatch],
        count: Callable[[str], None],
        budgets: Sequence[int],
        kept_tokens: int | None,
        text_reader: TextReader | None,
    ) -> None:
        """`budgets` are the numbers of summary tokens that the model allows an image to keep.

        Of an upload that does not say how many, it keeps `kept_tokens`, or all if None.
        """
        self._new_watch = new_watch
        self._worker = worker
        self._library = library
        self._decoders = decoders
        self._decode = decode
        self._settings = settings
        self._count = count
        self._budgets = budgets
        self._kept_tokens = kept_tokens
        self._text_reader = text_reader

    def __call__(
        self, uploads: Sequence[Upload], context: RequestContext
    ) -> tuple[list[Outcome], dict[str, float]]:
        """The outcome for each file, in order, and the timings. A created image is durable.

        An image stored with fewer tokens than are asked for is compressed again, and keeps its
        metadata.

        Raises InvalidInput for a number of tokens that is not a budget, NoImageStored if every file
        failed, QueueFull before any work, DeadlineExceeded or RequestCancelled. What the model had
        computed or begun before one of the last two is stored all the same; a repeated upload
        reports that it exists.
        """
        watch = self._new_watch()
        self.check_tokens([upload.tokens for upload in uploads])
        progress = _Progress(self.usable_records(uploads))
        missing = {
            upload.sha256: upload
            for upload in uploads
            if upload.sha256 not in progress.records
        }
        watch.lap("lookup")
        self._store(missing, progress, context, watch)
        outcomes = list(self._outcomes(uploads, progress))
        failed = [outcome for outcome in outcomes if isinstance(outcome, Failed)]
        if len(failed) == len(outcomes):
            if len(progress.causes) == len(progress.errors):
                # Not the files' fault: the service's own error says so.
                raise progress.causes[0]
            raise NoImageStored(
                [FailedFile(each.filename, each.error) for each in failed]
            )
        return outcomes, watch.timings_ms()

    def check_tokens(self, counts: Iterable[int | None]) -> None:
        """Raises InvalidInput for a number of tokens that is not a budget; None is all of them."""
        for count in set(counts) - {None, *self._budgets}:
            allowed = " or ".join(map(str, self._budgets))
            raise InvalidInput(
                f"An image can keep {allowed} summary tokens, not {count}."
            )

    def usable_records(self, uploads: Sequence[Upload]) -> dict[str, Record]:
        """Stored records that have as many tokens as the upload asks for, by sha256."""
        counts = {upload.sha256: upload.tokens or 1 for upload in uploads}
        records: dict[str, Record] = {}
        for sha256, record in zip(
            counts, self._library.find(list(counts)), strict=True
        ):
            if record is not None and record.token_count >= counts[sha256]:
                records[sha256] = record
        return records

    def _outcomes(
        self, uploads: Sequence[Upload], progress: _Progress
    ) -> Iterator[Outcome]:
        created = set(progress.created)
        near = self._near_duplicates(progress)
        for upload in uploads:
            sha256 = upload.sha256
            outcome: Outcome
            if sha256 in progress.errors:
                outcome = Failed(upload.filename, sha256, progress.errors[sha256])
            elif sha256 in created:
                # The same file a second time in one upload exists by then.
                created.remove(sha256)
                notes = progress.notes[sha256]
                record = progress.records[sha256]
                outcome = Stored(
                    upload.filename, record, "created", notes, near[sha256]
                )
            else:
                outcome = Stored(upload.filename, progress.records[sha256], "exists")
            self._count(outcome.status)
            yield outcome

    def _near_duplicates(
        self, progress: _Progress
    ) -> dict[str, Sequence[NearDuplicate]]:
        """Of each created image, by sha256."""
        records = [progress.records[sha256] for sha256 in progress.created]
        least_score = self._settings.near_duplicate_score
        try:
            told = near_duplicates(self._library, records, least_score)
        except LibraryError as error:
            # The images are stored; what is said of them beside must not make that a failure.
            log.warning("near duplicates could not be searched for: %s", error)
            told = [[] for _ in records]
        return dict(zip(progress.created, told, strict=True))

    def _store(
        self,
        uploads: Mapping[str, Upload],
        progress: _Progress,
        context: RequestContext,
        watch: Stopwatch,
    ) -> None:
        """Decodes, compresses and stores the uploads, chunk by chunk."""
        with self._worker.images.slots(len(uploads)), _cancelling() as pending:
            files = iter(uploads.items())
            try:
                while chunk := list(islice(files, self._settings.batch_size)):
                    images = self._decoded(chunk, progress, context)
                    watch.lap("decode")
                    if images:
                        results = self._worker.compress(
                            [image.decoded.image for image in images]
                        )
                        pending.append(_Chunk(images, results))
                    # One chunk stays in flight, so that the model works while the next is decoded.
                    if len(pending) > 1:
                        self._store_chunk(pending.popleft(), progress, context, watch)
                while pending:
                    self._store_chunk(pending.popleft(), progress, context, watch)
            except (DeadlineExceeded, RequestCancelled):
                while pending:
                    with suppress(DeadlineExceeded, RequestCancelled):
                        self._store_chunk(pending.popleft(), progress, context, watch)
                raise

    def _store_chunk(
        self,
        chunk: _Chunk,
        progress: _Progress,
        context: RequestContext,
        watch: Stopwatch,
    ) -> None:
        """Stores what the model made of a chunk, and notes the errors of single files.

        Raises, once that is stored, an error that ends the whole request.
        """
        outcomes = context.outcomes(chunk.results)
        watch.lap("model")
        computed: list[tuple[_Prepared, Compressed]] = []
        ended: Exception | None = None
        for image, outcome in zip(chunk.images, outcomes, strict=True):
            if isinstance(outcome, Compressed):
                computed.append((image, outcome))
            elif isinstance(outcome, _ENDS):
                ended = outcome
            else:
                self._note_failure(image.sha256, outcome, progress)
        self._put(computed, progress)
        watch.lap("store")
        if ended is not None:
            raise ended

    def _put(
        self, computed: Sequence[tuple[_Prepared, Compressed]], progress: _Progress
    ) -> None:
        new_images = [self._new_image(image, result) for image, result in computed]
        try:
            results = self._library.put(new_images)
        except _BAD_IMAGE as error:
            if len(computed) == 1:
                ((image, _),) = computed
                self._note_failure(image.sha256, error, progress)
                return
            # The library stores a batch whole or not at all; alone, only the bad one fails.
            for pair in computed:
                self._put([pair], progress)
            return
        for (image, _), result in zip(computed, results, strict=True):
            progress.records[image.sha256] = result.record
            if result.created:
                progress.created.add(image.sha256)
                progress.notes[image.sha256] = image.decoded.notes

    def _note_failure(self, sha256: str, error: Exception, progress: _Progress) -> None:
        if not isinstance(error, PictureError):
            log.error("A file of an upload failed: %s", sha256, exc_info=error)
            progress.causes.append(error)
            error = FileFailed()
        progress.errors[sha256] = error

    def _decoded(
        self,
        files: Sequence[tuple[str, Upload]],
        progress: _Progress,
        context: RequestContext,
    ) -> list[_Prepared]:
        """The files that can be decoded; notes the errors of the others."""
        work = [self._decoders.submit(self._prepare, *file) for file in files]
        images: list[_Prepared] = []
        results = context.outcomes(work)
        for (sha256, _), result in zip(files, results, strict=True):
            if isinstance(result, _Prepared):
                images.append(result)
            elif isinstance(result, _ENDS):
                raise result
            else:
                self._note_failure(sha256, result, progress)
        return images

    def _prepare(self, sha256: str, upload: Upload) -> _Prepared:
        upload.file.seek(0)
        data = upload.file.read()
        settings = self._settings
        decoded = self._decode(
            data,
            max_pixels=settings.max_image_pixels,
            max_side_px=settings.image_side_px,
        )
        picture = _KEPT_PICTURE[settings.keep](decoded, data)
        metadata = _metadata(upload, decoded, self._text_of(decoded.image))
        return _Prepared(sha256, upload, decoded, picture, metadata)

    def _text_of(self, image: Image) -> dict[str, Any]:
        """What the metadata say of the text in a picture."""
        if self._text_reader is None:
            return {}
        try:
            return text_metadata(self._text_reader.read(image))
        except TextReaderFailed as error:
            # The picture itself is good, and worth storing without its text.
            log.warning("%s", error)
            return {}

    def _new_image(self, image: _Prepared, result: Compressed) -> NewImage:
        return NewImage(
            sha256=image.sha256,
            fingerprint=self._library.fingerprint,
            tokens=result.tokens[: image.upload.tokens or self._kept_tokens],
            embedding=result.embedding,
            width_px=image.decoded.width_px,
            height_px=image.decoded.height_px,
            metadata=image.metadata,
            picture=image.picture,
        )


def _metadata(
    upload: Upload, decoded: Decoded, text: Mapping[str, Any]
) -> Mapping[str, Any]:
    """The upload's own, the text in the picture, its EXIF, and the range of values if found.

    What the upload itself says stands.
    """
    found = dict(text)
    if decoded.value_range is not None:
        found[VALUE_RANGE] = list(decoded.value_range)
    if decoded.exif:
        found[EXIF] = dict(decoded.exif)
    return found | dict(upload.metadata)


@contextmanager
def _cancelling() -> Iterator[deque[_Chunk]]:
    """A queue of chunks; those left in it when an error ends the block are cancelled."""
    pending: deque[_Chunk] = deque()
    try:
        yield pending
    finally:
        for chunk in pending:
            for result in chunk.results:
                result.cancel()
