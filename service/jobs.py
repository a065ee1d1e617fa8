"""Uploads and imports that are worked on after their answer, in one SQLite file, `jobs.sqlite`.

A file of an upload leaves the job's database once its image is stored, or cannot be. An import
reads pictures where they lie; of it the database has how far it is, and the failures.
"""

from __future__ import annotations

import io
import json
import secrets
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from index.errors import StoreTooNew
from index.files import store_errors
from index.library import read_cursor, write_cursor
from index.store.connections import sqlite_errors
from service.errors import QueueFull
from service.use_cases.import_source import Place
from service.use_cases.ingest import Upload

FILE_NAME = "jobs.sqlite"
VERSION = 2  # PRAGMA user_version
KEPT_MS = 7 * 24 * 3600 * 1000  # a finished job
MAX_FILES = 1000  # of a job, told at once
_ID_BYTES = 8
_MAX_NUMBER = 2**63 - 1
_NUMBER = "(SELECT number FROM jobs WHERE id = ?)"
_TABLES = """
CREATE TABLE jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    collection TEXT,
    created_at_ms INTEGER NOT NULL,
    started_at_ms INTEGER,
    finished_at_ms INTEGER,
    cancelled INTEGER NOT NULL DEFAULT 0,
    busy_s REAL NOT NULL DEFAULT 0
);
CREATE TABLE files (
    job INTEGER NOT NULL,
    number INTEGER NOT NULL,
    filename TEXT NOT NULL,
    metadata TEXT NOT NULL,
    tokens INTEGER,
    data BLOB,  -- NULL once the file is done
    status TEXT,  -- NULL until then
    image_id TEXT,
    error TEXT,  -- a JSON object
    PRIMARY KEY (job, number)
);
"""
# Since version 2. The files of an import are in `files` only if they failed.
_TABLE_OF_IMPORTS = """
CREATE TABLE imports (
    job INTEGER PRIMARY KEY,
    path TEXT NOT NULL,
    metadata TEXT NOT NULL,  -- of every picture; a JSON object
    tokens INTEGER,
    total INTEGER,  -- of the pictures; NULL until they are counted
    passed_over TEXT NOT NULL DEFAULT '{}',  -- counts by reason
    place TEXT,  -- of the last picture worked on: a JSON list of names and a number
    created INTEGER NOT NULL DEFAULT 0,
    "exists" INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0
);
"""
# Each job beside its import, if it is one, with the counts of its files as a JSON object.
_JOBS = """
SELECT number, id, collection, created_at_ms, started_at_ms, finished_at_ms, cancelled, busy_s,
    (SELECT json_group_object(file_status, file_count) FROM (
        SELECT COALESCE(status, 'waiting') AS file_status, COUNT(*) AS file_count
        FROM files WHERE files.job = jobs.number GROUP BY file_status)),
    path, metadata, tokens, total, passed_over, place, created, "exists", failed
FROM jobs LEFT JOIN imports ON imports.job = jobs.number
"""

FileStatus = Literal["created", "exists", "failed", "cancelled"]
_IMPORT_STATUSES: tuple[FileStatus, ...] = ("created", "exists", "failed")
State = Literal["waiting", "running", "done", "cancelled"]


@dataclass(frozen=True)
class FileOutcome:
    """What became of one file of a job."""

    status: FileStatus
    image_id: str | None = None
    error: dict[str, Any] | None = None  # a problem, of a file that failed


@dataclass(frozen=True)
class JobFile:
    """A file of a job; `outcome` is None while it waits."""

    filename: str
    outcome: FileOutcome | None


@dataclass(frozen=True)
class Import:
    """What a job imports from the disk of the service, and how far it is."""

    path: str  # below the import folder
    metadata: Mapping[str, Any]  # of every picture
    tokens: int | None
    total: int | None = None  # of the pictures, once they are counted
    passed_over: dict[str, int] = field(default_factory=dict)  # by reason
    place: Place | None = None  # of the last picture worked on


@dataclass(frozen=True)
class Job:
    """An upload or an import that is worked on after its answer."""

    id: str
    collection: str | None
    created_at_ms: int  # Unix time
    started_at_ms: int | None
    finished_at_ms: int | None
    cancelled: bool
    busy_s: float  # time spent on its files so far
    counts: dict[str, int]  # of files by status; `waiting` is unknown until counted
    files: Sequence[JobFile]  # those asked for; of an import those that failed
    imported: Import | None = None  # None for an upload

    @property
    def state(self) -> State:
        """Where the job stands."""
        if self.cancelled:
            return "cancelled"
        if self.finished_at_ms is not None:
            return "done"
        return "waiting" if self.started_at_ms is None else "running"


@dataclass(frozen=True)
class JobPage:
    """Jobs without their files, newest first, and the cursor of the next page; None on the last."""

    jobs: list[Job]
    next_cursor: str | None


@dataclass(frozen=True)
class WaitingFile:
    """A file to be worked on, by its number in its job."""

    number: int
    upload: Upload


class JobStore:
    """The jobs of a data folder. Thread-safe."""

    def __init__(
        self, folder: Path, max_bytes: int, now: Callable[[], float] = time.time
    ) -> None:
        """Opens or creates the file; `max_bytes` is for all waiting files. Raises StoreError."""
        self._max_bytes = max_bytes
        self._now = now
        self._lock = threading.Lock()
        with store_errors("the data folder cannot be created"):
            folder.mkdir(parents=True, exist_ok=True)
        with sqlite_errors():
            self._file = sqlite3.connect(
                folder / FILE_NAME, isolation_level=None, check_same_thread=False
            )
            try:
                self._prepare()
            except BaseException:
                self._file.close()
                raise

    def add(self, collection: str | None, uploads: Sequence[Upload]) -> Job:
        """A new job; it survives a crash once this returns. Raises QueueFull, StoreError."""
        contents: list[bytes] = []
        for upload in uploads:
            upload.file.seek(0)
            contents.append(upload.file.read())
        with self._transaction() as file:
            query = "SELECT COALESCE(SUM(LENGTH(data)), 0) FROM files"
            (held,) = file.execute(query).fetchone()
            if held + sum(map(len, contents)) > self._max_bytes:
                raise QueueFull("Too many uploads wait for work.", retry_after_s=30)
            job = self._new_job(file, collection)
            rows = []
            for number, (upload, data) in enumerate(
                zip(uploads, contents, strict=True)
            ):
                metadata = json.dumps(upload.metadata)
                row = (job, number, upload.filename, metadata, upload.tokens, data)
                rows.append(row)
            file.executemany(
                "INSERT INTO files (job, number, filename, metadata, tokens, data)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                rows,
            )
            return self._of_number(file, job)

    def add_import(
        self,
        collection: str | None,
        path: str,
        metadata: Mapping[str, Any],
        tokens: int | None,
    ) -> Job:
        """A new import; it survives a crash once this returns. Raises StoreError.

        If one for the same path and collection is not finished, it is that one.
        """
        same = (
            "SELECT number FROM jobs JOIN imports ON job = number"
            " WHERE finished_at_ms IS NULL AND collection IS ? AND path = ?"
            " AND metadata = ? AND tokens IS ?"
        )
        as_json = json.dumps(metadata, sort_keys=True)
        with self._transaction() as file:
            row = file.execute(same, (collection, path, as_json, tokens)).fetchone()
            if row is not None:
                return self._of_number(file, row[0])
            job = self._new_job(file, collection)
            insert = (
                "INSERT INTO imports (job, path, metadata, tokens) VALUES (?, ?, ?, ?)"
            )
            file.execute(insert, (job, path, as_json, tokens))
            return self._of_number(file, job)

    def get(self, id: str, offset: int = 0, limit: int = MAX_FILES) -> Job | None:
        """The job with `limit` of its files, None for an unknown id. Raises StoreError."""
        with self._lock, sqlite_errors():
            return self._with_files(self._file, "WHERE id = ?", (id,), offset, limit)

    def page(self, collection: str | None, cursor: str | None, limit: int) -> JobPage:
        """The next `limit` jobs of a collection after `cursor`, newest first.

        Raises index.errors.InvalidCursor, StoreError.
        """
        where = "WHERE collection IS ? AND number < ? ORDER BY number DESC LIMIT ?"
        before = _MAX_NUMBER if cursor is None else read_cursor(cursor, True)
        with self._lock, sqlite_errors():
            # One more than asked for tells whether there is a next page.
            found = self._read(self._file, where, (collection, before, limit + 1))
        jobs = [job for _, job in found[:limit]]
        is_last = len(found) <= limit
        return JobPage(
            jobs, None if is_last else write_cursor(found[limit - 1][0], True)
        )

    def next(self) -> Job | None:
        """The oldest job that is not finished, without files. Raises StoreError."""
        where = "WHERE finished_at_ms IS NULL ORDER BY number LIMIT 1"
        with self._lock, sqlite_errors():
            found = self._read(self._file, where, ())
        return found[0][1] if found else None

    def waiting(self, id: str, limit: int) -> list[WaitingFile]:
        """The first files of a job that wait. Raises StoreError."""
        query = (
            "SELECT files.number, filename, metadata, tokens, data FROM files"
            " JOIN jobs ON files.job = jobs.number"
            " WHERE id = ? AND status IS NULL ORDER BY files.number LIMIT ?"
        )
        with self._lock, sqlite_errors():
            rows = self._file.execute(query, (id, limit)).fetchall()
        waiting = []
        for number, filename, metadata, tokens, data in rows:
            upload = Upload(filename, io.BytesIO(data), json.loads(metadata), tokens)
            waiting.append(WaitingFile(number, upload))
        return waiting

    def begin(self, id: str) -> None:
        """Notes that the work on a job begins. Raises StoreError."""
        update = "UPDATE jobs SET started_at_ms = ? WHERE id = ?"
        with self._transaction() as file:
            file.execute(update, (self._now_ms(), id))

    def note(self, id: str, outcomes: dict[int, FileOutcome], busy_s: float) -> None:
        """Notes what became of files, by number, and drops their bytes. Raises StoreError."""
        rows = []
        for number, outcome in outcomes.items():
            error = None if outcome.error is None else json.dumps(outcome.error)
            rows.append((outcome.status, outcome.image_id, error, id, number))
        with self._transaction() as file:
            # A file that was in work when its job was cancelled may be stored all the same.
            file.executemany(
                "UPDATE files SET status = ?, image_id = ?, error = ?, data = NULL"
                f" WHERE job = {_NUMBER} AND number = ?"
                " AND (status IS NULL OR status = 'cancelled')",
                rows,
            )
            update = "UPDATE jobs SET busy_s = busy_s + ? WHERE id = ?"
            file.execute(update, (busy_s, id))
            self._finish(file, id)
        self._give_back_space()

    def note_count(self, id: str, total: int, passed_over: Mapping[str, int]) -> None:
        """Notes what an import has found. Raises StoreError."""
        update = f"UPDATE imports SET total = ?, passed_over = ? WHERE job = {_NUMBER}"
        with self._transaction() as file:
            file.execute(update, (total, json.dumps(passed_over), id))

    def note_import(
        self,
        id: str,
        outcomes: Sequence[tuple[str, FileOutcome]],
        place: Place,
        busy_s: float,
    ) -> None:
        """Notes what became of the pictures up to a place, by name. Raises StoreError."""
        with self._transaction() as file:
            (job,) = file.execute(
                "SELECT number FROM jobs WHERE id = ?", (id,)
            ).fetchone()
            counts = Counter(outcome.status for _, outcome in outcomes)
            file.execute(
                "UPDATE imports SET place = ?, created = created + ?,"
                ' "exists" = "exists" + ?, failed = failed + ? WHERE job = ?',
                (
                    json.dumps([place.parts, place.number]),
                    *(counts[status] for status in _IMPORT_STATUSES),
                    job,
                ),
            )
            query = "SELECT COALESCE(MAX(number) + 1, 0) FROM files WHERE job = ?"
            (first,) = file.execute(query, (job,)).fetchone()
            failed = [pair for pair in outcomes if pair[1].status == "failed"]
            rows = []
            for number, (name, outcome) in enumerate(failed, first):
                rows.append((job, number, name, json.dumps(outcome.error)))
            file.executemany(
                "INSERT INTO files (job, number, filename, metadata, status, error)"
                " VALUES (?, ?, ?, '{}', 'failed', ?)",
                rows,
            )
            update = "UPDATE jobs SET busy_s = busy_s + ? WHERE number = ?"
            file.execute(update, (busy_s, job))

    def finish_import(self, id: str) -> None:
        """Notes that an import has come to its end. Raises StoreError."""
        with self._transaction() as file:
            self._finish(file, id)

    def cancel(self, id: str) -> None:
        """Cancels what still waits of a job, for good. Raises StoreError."""
        with self._transaction() as file:
            waiting = file.execute(
                f"UPDATE files SET status = 'cancelled', data = NULL"
                f" WHERE status IS NULL AND job = {_NUMBER}",
                (id,),
            ).rowcount
            file.execute(
                "UPDATE jobs SET cancelled = 1 WHERE id = ? AND (? OR"
                " (finished_at_ms IS NULL AND number IN (SELECT job FROM imports)))",
                (id, waiting),
            )
            self._finish(file, id)
        self._give_back_space()

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._file.close()

    def _new_job(self, file: sqlite3.Connection, collection: str | None) -> int:
        now_ms = self._now_ms()
        self._forget_old(file, now_ms)
        id_ = secrets.token_hex(_ID_BYTES)
        insert = "INSERT INTO jobs (id, collection, created_at_ms) VALUES (?, ?, ?)"
        number = file.execute(insert, (id_, collection, now_ms)).lastrowid
        assert number is not None
        return number

    def _of_number(self, file: sqlite3.Connection, number: int) -> Job:
        job = self._with_files(file, "WHERE number = ?", (number,), 0, MAX_FILES)
        assert job is not None
        return job

    def _read(
        self, file: sqlite3.Connection, where: str, values: tuple[Any, ...]
    ) -> list[tuple[int, Job]]:
        """Jobs without their files, each behind its number."""
        rows = file.execute(f"{_JOBS} {where}", values).fetchall()
        return [(number, _job(*columns)) for number, *columns in rows]

    def _with_files(
        self,
        file: sqlite3.Connection,
        where: str,
        values: tuple[Any, ...],
        offset: int,
        limit: int,
    ) -> Job | None:
        found = self._read(file, where, values)
        if not found:
            return None
        number, job = found[0]
        of_files = (
            "SELECT filename, status, image_id, error FROM files"
            " WHERE job = ? ORDER BY number LIMIT ? OFFSET ?"
        )
        rows = file.execute(of_files, (number, limit, offset)).fetchall()
        return replace(job, files=[_job_file(*columns) for columns in rows])

    def _finish(self, file: sqlite3.Connection, id: str) -> None:
        file.execute(
            "UPDATE jobs SET finished_at_ms = ? WHERE id = ? AND finished_at_ms IS NULL"
            " AND NOT EXISTS (SELECT 1 FROM files WHERE job = jobs.number AND status IS NULL)",
            (self._now_ms(), id),
        )

    def _forget_old(self, file: sqlite3.Connection, now_ms: int) -> None:
        old = "SELECT number FROM jobs WHERE finished_at_ms < ?"
        values = (now_ms - KEPT_MS,)
        for table in ("files", "imports"):
            file.execute(f"DELETE FROM {table} WHERE job IN ({old})", values)
        file.execute("DELETE FROM jobs WHERE finished_at_ms < ?", values)

    def _give_back_space(self) -> None:
        with self._lock, sqlite_errors():
            # As a script, which runs to its end: `execute` would free a single page. The
            # write-ahead log has the uploads too.
            self._file.executescript(
                "PRAGMA incremental_vacuum; PRAGMA wal_checkpoint(TRUNCATE)"
            )

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, sqlite_errors():
            self._file.execute("BEGIN IMMEDIATE")
            try:
                yield self._file
                self._file.execute("COMMIT")
            except BaseException:
                if self._file.in_transaction:
                    self._file.execute("ROLLBACK")
                raise

    def _now_ms(self) -> int:
        return int(self._now() * 1000)

    def _prepare(self) -> None:
        # Before the file has a table: it cannot be changed afterwards.
        self._file.execute("PRAGMA auto_vacuum = INCREMENTAL")
        self._file.execute("PRAGMA journal_mode = WAL")
        self._file.execute("PRAGMA synchronous = FULL")
        self._file.execute("PRAGMA fullfsync = ON")
        self._file.execute("PRAGMA secure_delete = ON")
        (version,) = self._file.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            raise StoreTooNew(f"{FILE_NAME} was written by a later version of Précis")
        missing = "" if version else _TABLES
        if version < VERSION:
            missing += _TABLE_OF_IMPORTS
            self._file.executescript(
                f"BEGIN; {missing} PRAGMA user_version = {VERSION}; COMMIT;"
            )


def _job(
    id: str,
    collection: str | None,
    created_at_ms: int,
    started_at_ms: int | None,
    finished_at_ms: int | None,
    cancelled: int,
    busy_s: float,
    file_counts: str,
    *of_import: Any,
) -> Job:
    """A job without its files, of a row of _JOBS."""
    counts: dict[str, int] = json.loads(file_counts)
    imported = None
    path, *_ = of_import
    if path is not None:
        imported, counts = _import(*of_import)
        waiting = counts.pop("waiting", 0)
        if waiting and (cancelled or finished_at_ms is None):
            counts["cancelled" if cancelled else "waiting"] = waiting
    return Job(
        id,
        collection,
        created_at_ms,
        started_at_ms,
        finished_at_ms,
        bool(cancelled),
        busy_s,
        counts,
        files=[],
        imported=imported,
    )


def _import(
    path: str,
    metadata: str,
    tokens: int | None,
    total: int | None,
    passed_over: str,
    place: str | None,
    *done: int,
) -> tuple[Import, dict[str, int]]:
    """What a job imports, and how many pictures have which status."""
    counts: dict[str, int] = dict(zip(_IMPORT_STATUSES, done, strict=True))
    if total is not None:
        # Files that have come since they were counted are none that wait.
        counts["waiting"] = max(0, total - sum(done))
    imported = Import(
        path,
        json.loads(metadata),
        tokens,
        total,
        json.loads(passed_over),
        None if place is None else _place(*json.loads(place)),
    )
    return imported, {status: count for status, count in counts.items() if count}


def _job_file(
    filename: str, status: FileStatus | None, image_id: str | None, error: str | None
) -> JobFile:
    if status is None:
        return JobFile(filename, None)
    problem = None if error is None else json.loads(error)
    return JobFile(filename, FileOutcome(status, image_id, problem))


def _place(parts: list[str], number: int) -> Place:
    return Place(tuple(parts), number)
