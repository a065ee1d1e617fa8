"""Answers by idempotency key: a request that is sent again gets its first answer again.

The answers are in one SQLite file, `receipts.sqlite`. Losing it does no harm, because a repeated
upload is also recognised by its content.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from index.errors import StoreDamaged
from index.store.connections import sqlite_errors
from service.errors import KeyInUse, KeyReused

FILE_NAME = "receipts.sqlite"
KEPT_S = 24 * 3600.0
VERSION = 1  # PRAGMA user_version; a file of another version is replaced


@dataclass(frozen=True)
class StoredAnswer:
    """The answer to a request."""

    status: int
    body: bytes


@dataclass(frozen=True)
class Claim:
    """A key that one request holds: answered before, or to be answered now."""

    answer: StoredAnswer | None
    # Stores the answer; it is durable when this returns. Raises StoreError.
    keep: Callable[[StoredAnswer], None]


class IdempotencyStore:
    """The answers of a day. Thread-safe."""

    def __init__(self, folder: Path, now: Callable[[], float] = time.time) -> None:
        """Opens or creates the file in `folder`; a damaged one is replaced. Raises StoreError."""
        self._now = now
        self._lock = threading.Lock()
        self._claimed: set[str] = set()
        self._path = folder / FILE_NAME
        try:
            self._open()
        except StoreDamaged:
            for suffix in ("", "-wal", "-shm"):
                self._path.with_name(FILE_NAME + suffix).unlink(missing_ok=True)
            self._open()

    @contextlib.contextmanager
    def claim(self, key: str, request: bytes) -> Iterator[Claim]:
        """Holds `key` until the block ends; `request` is a hash of the whole request.

        Raises KeyInUse while another request holds the key, KeyReused if another request was
        answered under it, StoreError.
        """
        with self._lock, sqlite_errors():
            if key in self._claimed:
                raise KeyInUse("A request with this key is in progress.")
            answer = self._answer(key, request)
            self._claimed.add(key)
        try:
            yield Claim(answer, lambda answer: self._keep(key, request, answer))
        finally:
            with self._lock:
                self._claimed.discard(key)

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._file.close()

    def _answer(self, key: str, request: bytes) -> StoredAnswer | None:
        oldest = self._now() - KEPT_S
        self._file.execute("DELETE FROM receipts WHERE answered_at < ?", (oldest,))
        query = "SELECT request, status, body FROM receipts WHERE key = ?"
        row = self._file.execute(query, (key,)).fetchone()
        if row is None:
            return None
        first_request, status, body = row
        if first_request != request:
            raise KeyReused("This key was used for another request.")
        return StoredAnswer(status, body)

    def _keep(self, key: str, request: bytes, answer: StoredAnswer) -> None:
        values = (key, request, answer.status, answer.body, self._now())
        with self._lock, sqlite_errors():
            self._file.execute(
                "INSERT OR REPLACE INTO receipts VALUES (?, ?, ?, ?, ?)", values
            )

    def _open(self) -> None:
        with sqlite_errors():
            self._file = sqlite3.connect(
                self._path, isolation_level=None, check_same_thread=False
            )
            try:
                self._prepare()
            except BaseException:
                self._file.close()
                raise

    def _prepare(self) -> None:
        self._file.execute("PRAGMA journal_mode = WAL")
        self._file.execute("PRAGMA synchronous = FULL")
        self._file.execute("PRAGMA fullfsync = ON")
        if self._file.execute("PRAGMA user_version").fetchone()[0] != VERSION:
            self._file.execute("DROP TABLE IF EXISTS receipts")
            self._file.execute(
                "CREATE TABLE receipts (key TEXT PRIMARY KEY, request BLOB NOT NULL,"
                " status INTEGER NOT NULL, body BLOB NOT NULL, answered_at REAL NOT NULL)"
                " WITHOUT ROWID"
            )
            self._file.execute("CREATE INDEX receipts_by_age ON receipts (answered_at)")
            self._file.execute(f"PRAGMA user_version = {VERSION}")
