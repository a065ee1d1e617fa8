"""The thread that works on jobs, one after the other, a batch of files at a time."""

from __future__ import annotations

import io
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

from index.errors import LibraryError, StoreClosed
from service.errors import (
    OUR_ERRORS,
    InvalidInput,
    NoImageStored,
    NotReady,
    QueueFull,
    RequestCancelled,
    ServiceError,
    ShuttingDown,
)
from service.jobs import MAX_FILES, FileOutcome, Import, Job, JobPage, JobStore
from service.problems import failure
from service.settings import Settings
from service.use_cases.import_source import Found, ImportSource, Place
from service.use_cases.ingest import Failed, Ingest, Outcome, Upload
from service.use_cases.metadata import checked_metadata
from service.worker.request_context import RequestContext

log = logging.getLogger(__name__)

# Nobody waits at the other end, so a job has no deadline of its own.
_NO_DEADLINE_S = 365 * 24 * 3600.0
_PAUSE_S = 0.5  # before a full queue is tried again

IngestOf = Callable[[str | None], Ingest]  # by the name of the collection
SourceOf = Callable[
    [str], ImportSource
]  # by the path of an import; raises InvalidInput


@dataclass(frozen=True)
class _Batch:
    """Files of a job that are worked on together."""

    uploads: Sequence[Upload]
    # Notes what became of them, by their index, and the seconds spent.
    note: Callable[[Mapping[int, FileOutcome], float], None]


class _Reading:
    """An import that is being read: the same batch again until it is done with."""

    def __init__(self, job_id: str, found: Iterator[Found]) -> None:
        self.job_id = job_id
        self._found = found
        self._batch: list[_Read] | None = None

    def batch(
        self, size: int, max_bytes: int, read: Callable[[Found], _Read]
    ) -> list[_Read]:
        """The next pictures; fewer than `size` if they have so many bytes. None at the end."""
        if self._batch is None:
            batch: list[_Read] = []
            held = 0
            for found in islice(self._found, size):
                batch.append(read(found))
                held += batch[-1].size
                if held >= max_bytes:
                    break
            self._batch = batch
        return self._batch

    def advance(self) -> None:
        """The batch is done with."""
        self._batch = None


@dataclass(frozen=True)
class _Read:
    """A picture of an import that was read, or why it could not be."""

    place: Place
    name: str
    upload: Upload | FileOutcome
    size: int = 0  # in bytes


class JobRunner:
    """Works on the jobs of a store until it is closed; what is left goes on at the next start."""

    def __init__(
        self,
        store: JobStore,
        ingest_of: IngestOf,
        source_of: SourceOf,
        settings: Settings,
    ) -> None:
        self._store = store
        self._ingest_of = ingest_of
        self._source_of = source_of
        self._settings = settings
        self._reading: _Reading | None = None
        self._changed = threading.Condition()
        self._closing = False
        self._woken = False
        self._current: tuple[str, RequestContext] | None = None
        self._thread = threading.Thread(target=self._run, name="jobs", daemon=True)

    def start(self) -> None:
        """Begins with the oldest job that an earlier process left."""
        self._thread.start()

    def add(self, collection: str | None, uploads: Sequence[Upload]) -> Job:
        """A new job; it survives a crash once this returns. Raises QueueFull, StoreError."""
        job = self._store.add(collection, uploads)
        self._wake()
        return job

    def add_import(
        self,
        collection: str | None,
        path: str,
        metadata: Mapping[str, Any],
        tokens: int | None,
    ) -> Job:
        """A new import, or the same one if it is not finished; it survives a crash.

        Raises InvalidInput for a path that cannot be imported, and StoreError.
        """
        self._source_of(path)
        job = self._store.add_import(collection, path, metadata, tokens)
        self._wake()
        return job

    def get(self, id: str, offset: int = 0, limit: int = MAX_FILES) -> Job | None:
        """The job with `limit` of its files, None for an unknown id. Raises StoreError."""
        return self._store.get(id, offset, limit)

    def page(self, collection: str | None, cursor: str | None, limit: int) -> JobPage:
        """The next jobs of a collection, newest first. Raises InvalidCursor, StoreError."""
        return self._store.page(collection, cursor, limit)

    def cancel(self, id: str) -> None:
        """Cancels a job, also in the middle of a batch. Raises StoreError."""
        self._store.cancel(id)
        with self._changed:
            current = self._current
        if current is not None and current[0] == id:
            current[1].cancel()

    def close(self) -> None:
        """Stops in the middle of a batch; its files wait again."""
        with self._changed:
            self._closing = True
            self._changed.notify()
            current = self._current
        if current is not None:
            current[1].cancel()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._closing:
            pause_s = None
            try:
                job = self._store.next()
                if job is not None:
                    self._work_on(job)
                    continue
                self._reading = None  # of a cancelled import
            except StoreClosed:
                # A service that is closed while it opens closes the store alone.
                return
            except LibraryError:
                log.exception("A job could not be read or noted.")
                pause_s = _PAUSE_S
            with self._changed:
                self._changed.wait_for(lambda: self._closing or self._woken, pause_s)
                self._woken = False

    def _wake(self) -> None:
        with self._changed:
            self._woken = True
            self._changed.notify()

    def _work_on(self, job: Job) -> None:
        """One batch of a job."""
        if job.started_at_ms is None:
            self._store.begin(job.id)
        context = RequestContext(_NO_DEADLINE_S)
        with self._changed:
            self._current = (job.id, context)
            if self._closing:
                context.cancel()
        started = time.perf_counter()
        batch: _Batch | None = None
        try:
            batch = self._batch(job, context)
            if batch is None:
                return
            outcomes = self._outcomes(job, batch.uploads, context)
        except (RequestCancelled, ShuttingDown):
            if not self._closing and batch is not None:
                self._note_stored(job, batch)
            return
        except (QueueFull, NotReady):
            # Others use the model; the job has time.
            with self._changed:
                self._changed.wait_for(lambda: self._closing, timeout=_PAUSE_S)
            return
        finally:
            with self._changed:
                self._current = None
        batch.note(dict(enumerate(outcomes)), time.perf_counter() - started)

    def _batch(self, job: Job, context: RequestContext) -> _Batch | None:
        """The next files of a job; None for an import that has none left, and is finished.

        Raises RequestCancelled.
        """
        if job.imported is not None:
            return self._batch_of_import(job, job.imported, context)
        files = self._store.waiting(job.id, self._settings.batch_size)

        def note(outcomes: Mapping[int, FileOutcome], busy_s: float) -> None:
            numbered = {files[index].number: each for index, each in outcomes.items()}
            self._store.note(job.id, numbered, busy_s)

        return _Batch([file.upload for file in files], note)

    def _batch_of_import(
        self, job: Job, imported: Import, context: RequestContext
    ) -> _Batch | None:
        reading = self._reading
        if reading is None or reading.job_id != job.id:
            reading = self._reading = self._opened(job, imported, context)
        if reading is None:
            return None
        settings = self._settings
        read = reading.batch(
            settings.batch_size,
            settings.max_upload_bytes,
            partial(self._read, imported),
        )
        if not read:
            self._reading = None
            self._store.finish_import(job.id)
            return None
        uploads = [each.upload for each in read if isinstance(each.upload, Upload)]

        def note(outcomes: Mapping[int, FileOutcome], busy_s: float) -> None:
            of_upload = {
                id(upload): outcomes[index]
                for index, upload in enumerate(uploads)
                if index in outcomes
            }
            named: list[tuple[str, FileOutcome]] = []
            for each in read:
                if isinstance(each.upload, FileOutcome):
                    named.append((each.name, each.upload))
                elif id(each.upload) in of_upload:
                    named.append((each.name, of_upload[id(each.upload)]))
            self._store.note_import(job.id, named, read[-1].place, busy_s)
            reading.advance()

        return _Batch(uploads, note)

    def _opened(
        self, job: Job, imported: Import, context: RequestContext
    ) -> _Reading | None:
        """The import from where it stands; None if its path is no longer there.

        Raises RequestCancelled.
        """
        try:
            source = self._source_of(imported.path)
        except InvalidInput as error:
            place = imported.place or Place((imported.path,))
            failed = self._failure(error)
            self._store.note_import(job.id, [(imported.path, failed)], place, 0.0)
            self._store.finish_import(job.id)
            return None
        if imported.total is None:
            total, passed_over = source.count(context.remaining_s)
            self._store.note_count(job.id, total, passed_over)
        return _Reading(job.id, source.pictures(imported.place))

    def _read(self, imported: Import, found: Found) -> _Read:
        try:
            content = found.read()
            metadata = checked_metadata(
                dict(content.metadata) | dict(imported.metadata)
            )
            most = self._settings.max_metadata_bytes
            if len(json.dumps(metadata)) > most:
                raise InvalidInput(f"Its metadata have more than {most} bytes.")
        except ServiceError as error:
            return _Read(found.place, found.name, self._failure(error))
        file = io.BytesIO(content.data)
        upload = Upload(found.name, file, metadata, imported.tokens)
        return _Read(found.place, found.name, upload, len(content.data))

    def _note_stored(self, job: Job, batch: _Batch) -> None:
        """Notes which files of a cancelled job are stored: what the model had begun is."""
        records = self._ingest_of(job.collection).usable_records(batch.uploads)
        outcomes: dict[int, FileOutcome] = {}
        for index, upload in enumerate(batch.uploads):
            record = records.get(upload.sha256)
            if record is not None:
                outcomes[index] = FileOutcome("exists", record.id)
        batch.note(outcomes, 0.0)

    def _outcomes(
        self, job: Job, uploads: Sequence[Upload], context: RequestContext
    ) -> list[FileOutcome]:
        if not uploads:
            return []
        try:
            outcomes, _ = self._ingest_of(job.collection)(uploads, context)
        except NoImageStored as error:
            return [self._failure(file.error) for file in error.failed]
        except (RequestCancelled, ShuttingDown, QueueFull, NotReady, StoreClosed):
            raise
        except Exception as error:
            # A batch that cannot be worked on must not come back for ever.
            if not isinstance(error, OUR_ERRORS):
                log.exception("A batch of job %s failed.", job.id)
            return [self._failure(error) for _ in uploads]
        return [self._outcome(outcome) for outcome in outcomes]

    def _outcome(self, outcome: Outcome) -> FileOutcome:
        if isinstance(outcome, Failed):
            return self._failure(outcome.error)
        return FileOutcome(outcome.status, outcome.record.id)

    def _failure(self, error: Exception) -> FileOutcome:
        return FileOutcome("failed", error=failure(error))
