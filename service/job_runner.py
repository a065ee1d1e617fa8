"""The thread that works on jobs, one after the other, a batch of files at a time."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from index.errors import LibraryError, StoreClosed
from service.errors import (
    OUR_ERRORS,
    NoImageStored,
    NotReady,
    QueueFull,
    RequestCancelled,
    ShuttingDown,
)
from service.jobs import FileOutcome, Job, JobStore, WaitingFile
from service.problems import failure
from service.use_cases.ingest import Failed, Ingest, Outcome, Upload
from service.worker.request_context import RequestContext

log = logging.getLogger(__name__)

# Nobody waits at the other end, so a job has no deadline of its own.
_NO_DEADLINE_S = 365 * 24 * 3600.0
_PAUSE_S = 0.5  # before a full queue is tried again

IngestOf = Callable[[str | None], Ingest]  # by the name of the collection


class JobRunner:
    """Works on the jobs of a store until it is closed; what is left goes on at the next start."""

    def __init__(
        self,
        store: JobStore,
        ingest_of: IngestOf,
        batch_size: int,
    ) -> None:
        self._store = store
        self._ingest_of = ingest_of
        self._batch_size = batch_size
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
        with self._changed:
            self._woken = True
            self._changed.notify()
        return job

    def get(self, id: str) -> Job | None:
        """The job, None for an unknown id. Raises StoreError."""
        return self._store.get(id)

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
            except StoreClosed:
                # A service that is closed while it opens closes the store alone.
                return
            except LibraryError:
                log.exception("A job could not be read or noted.")
                pause_s = _PAUSE_S
            with self._changed:
                self._changed.wait_for(lambda: self._closing or self._woken, pause_s)
                self._woken = False

    def _work_on(self, job: Job) -> None:
        """One batch of a job."""
        if job.started_at_ms is None:
            self._store.begin(job.id)
        batch = self._store.waiting(job.id, self._batch_size)
        context = RequestContext(_NO_DEADLINE_S)
        with self._changed:
            self._current = (job.id, context)
            if self._closing:
                context.cancel()
        started = time.perf_counter()
        try:
            outcomes = self._outcomes(job, batch, context)
        except (RequestCancelled, ShuttingDown):
            if not self._closing:
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
        numbers = [file.number for file in batch]
        busy_s = time.perf_counter() - started
        self._store.note(job.id, dict(zip(numbers, outcomes, strict=True)), busy_s)

    def _note_stored(self, job: Job, batch: Sequence[WaitingFile]) -> None:
        """Notes which files of a cancelled job are stored: what the model had begun is."""
        uploads = [file.upload for file in batch]
        records = self._ingest_of(job.collection).usable_records(uploads)
        outcomes: dict[int, FileOutcome] = {}
        for file in batch:
            record = records.get(file.upload.sha256)
            if record is not None:
                outcomes[file.number] = FileOutcome("exists", record.id)
        self._store.note(job.id, outcomes, busy_s=0.0)

    def _outcomes(
        self, job: Job, batch: Sequence[WaitingFile], context: RequestContext
    ) -> list[FileOutcome]:
        uploads = [file.upload for file in batch]
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
            return [self._failure(error) for _ in batch]
        return [self._outcome(outcome) for outcome in outcomes]

    def _outcome(self, outcome: Outcome) -> FileOutcome:
        if isinstance(outcome, Failed):
            return self._failure(outcome.error)
        return FileOutcome(outcome.status, outcome.record.id)

    def _failure(self, error: Exception) -> FileOutcome:
        return FileOutcome("failed", error=failure(error))
