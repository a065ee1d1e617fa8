"""Uploads that are worked on after their answer, in one SQLite file, `jobs.sqlite`.

A file of an upload leaves the job's database once its image is stored, or cannot be.
"""

from __future__ import annotations

import io
import json
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from index.errors import StoreTooNew
from index.files import store_errors
from index.store.connections import sqlite_errors
from service.errors import QueueFull
from service.use_cases.ingest import Upload

FILE_NAME = "jobs.sqlite"
VERSION = 1  # PRAGMA user_version
KEPT_MS = 7 * 24 * 3600 * 1000  # a finished job
_ID_BYTES = 8
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

FileStatus = Literal["created", "exists", "failed", "cancelled"]
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
class Job:
    """An upload that is worked on after its answer."""

    id: str
    collection: str | None
    created_at_ms: int  # Unix time
    started_at_ms: int | None
    finished_at_ms: int | None
    cancelled: bool
    busy_s: float  # time spent on its files so far
    files: list[JobFile]

    @property
    def state(self) -> State:
        """Where the job stands."""
        if self.cancelled:
            return "cancelled"
        if self.finished_at_ms is not None:
            return "done"
        return "waiting" if self.started_at_ms is None else "running"


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
        id_ = secrets.token_hex(_ID_BYTES)
        now_ms = self._now_ms()
        contents: list[bytes] = []
        for upload in uploads:
            upload.file.seek(0)
            contents.append(upload.file.read())
        with self._transaction() as file:
            self._forget_old(file, now_ms)
            query = "SELECT COALESCE(SUM(LENGTH(data)), 0) FROM files"
            (held,) = file.execute(query).fetchone()
            if held + sum(map(len, contents)) > self._max_bytes:
                raise QueueFull("Too many uploads wait for work.", retry_after_s=30)
            insert = "INSERT INTO jobs (id, collection, created_at_ms) VALUES (?, ?, ?)"
            job = file.execute(insert, (id_, collection, now_ms)).lastrowid
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
        files = [JobFile(upload.filename, None) for upload in uploads]
        return Job(id_, collection, now_ms, None, None, False, 0.0, files)

    def get(self, id: str) -> Job | None:
        """The job, None for an unknown id. Raises StoreError."""
        return self._read("WHERE id = ?", (id,))

    def next(self) -> Job | None:
        """The oldest job that is not finished. Raises StoreError."""
        return self._read("WHERE finished_at_ms IS NULL ORDER BY number LIMIT 1", ())

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
                " WHERE job = (SELECT number FROM jobs WHERE id = ?) AND number = ?"
                " AND (status IS NULL OR status = 'cancelled')",
                rows,
            )
            update = "UPDATE jobs SET busy_s = busy_s + ? WHERE id = ?"
            file.execute(update, (busy_s, id))
            self._finish(file, id)
        self._give_back_space()

    def cancel(self, id: str) -> None:
        """Cancels what still waits of a job, for good. Raises StoreError."""
        with self._transaction() as file:
            changed = file.execute(
                "UPDATE files SET status = 'cancelled', data = NULL WHERE status IS NULL"
                " AND job = (SELECT number FROM jobs WHERE id = ?)",
                (id,),
            ).rowcount
            if changed:
                file.execute("UPDATE jobs SET cancelled = 1 WHERE id = ?", (id,))
            self._finish(file, id)
        self._give_back_space()

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._file.close()

    def _read(self, where: str, values: tuple[str, ...]) -> Job | None:
        query = (
            "SELECT number, id, collection, created_at_ms, started_at_ms, finished_at_ms,"
            f" cancelled, busy_s FROM jobs {where}"
        )
        of_files = (
            "SELECT filename, status, image_id, error FROM files"
            " WHERE job = ? ORDER BY number"
        )
        with self._lock, sqlite_errors():
            row = self._file.execute(query, values).fetchone()
            if row is None:
                return None
            number, id_, collection, created, started, finished, cancelled, busy_s = row
            files = self._file.execute(of_files, (number,)).fetchall()
        return Job(
            id_,
            collection,
            created,
            started,
            finished,
            bool(cancelled),
            busy_s,
            [_job_file(*columns) for columns in files],
        )

    def _finish(self, file: sqlite3.Connection, id: str) -> None:
        file.execute(
            "UPDATE jobs SET finished_at_ms = ? WHERE id = ? AND finished_at_ms IS NULL"
            " AND NOT EXISTS (SELECT 1 FROM files WHERE job = jobs.number AND status IS NULL)",
            (self._now_ms(), id),
        )

    def _forget_old(self, file: sqlite3.Connection, now_ms: int) -> None:
        old = "SELECT number FROM jobs WHERE finished_at_ms < ?"
        values = (now_ms - KEPT_MS,)
        file.execute(f"DELETE FROM files WHERE job IN ({old})", values)
        file.execute("DELETE FROM jobs WHERE finished_at_ms < ?", values)

    def _give_back_space(self) -> None:
        with self._lock, sqlite_errors():
            # As a script, which runs to its end: `execute` would free a single page.
            self._file.executescript("PRAGMA incremental_vacuum")

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
        if version == 0:
            self._file.executescript(
                f"BEGIN; {_TABLES} PRAGMA user_version = {VERSION}; COMMIT;"
            )


def _job_file(
    filename: str, status: FileStatus | None, image_id: str | None, error: str | None
) -> JobFile:
    if status is None:
        return JobFile(filename, None)
    problem = None if error is None else json.loads(error)
    return JobFile(filename, FileOutcome(status, image_id, problem))
