"""Answers by idempotency key, so that a request that is sent again is answered again and not done
again.

Knows nothing of HTTP or of what is answered. One SQLite file, `receipts.sqlite`, which may be lost
without harm: images are known by their content too.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from index.errors import KeyInUse, KeyReused, StoreDamaged
from index.store.connections import sqlite_errors

FILE_NAME = "receipts.sqlite"
KEPT_S = 24 * 3600.0
VERSION = 1  # PRAGMA user_version; a file of another version is begun anew


@dataclass(frozen=True)
class Receipt:
    """What was answered."""

    status: int
    body: bytes


class Slot:
    """A key that is in work: answered before, or to be answered now."""

    def __init__(self, receipt: Receipt | None, keep: Callable[[Receipt], None]) -> None:
        self.receipt = receipt
        self._keep = keep

    def answer(self, receipt: Receipt) -> None:
        """Keeps the answer; it is on the disk when this returns. Raises StoreError."""
        self._keep(receipt)


class IdempotencyStore:
    """Thread-safe. A key is forgotten a day after its answer."""

    def __init__(self, folder: Path, now: Callable[[], float] = time.time) -> None:
        """Opens or creates the file in `folder`; a damaged one is begun anew. Raises StoreError."""
        self._now = now
        self._lock = threading.Lock()
        self._in_work: set[str] = set()
        self._path = folder / FILE_NAME
        try:
            self._open()
        except StoreDamaged:
            for suffix in ("", "-wal", "-shm"):
                self._path.with_name(FILE_NAME + suffix).unlink(missing_ok=True)
            self._open()

    @contextlib.contextmanager
    def once(self, key: str, request: bytes) -> Iterator[Slot]:
        """Within it, `key` belongs to the caller; `request` is a hash of all that was asked.

        Raises KeyInUse while another works on the key, KeyReused if it was answered for another
        request, StoreError.
        """
        with self._lock, sqlite_errors():
            if key in self._in_work:
                raise KeyInUse("a request with this key is being worked on")
            self._file.execute(
                "DELETE FROM receipts WHERE answered_at < ?", (self._now() - KEPT_S,)
            )
            query = "SELECT request, status, body FROM receipts WHERE key = ?"
            found = self._file.execute(query, (key,)).fetchone()
            if found is not None and found[0] != request:
                raise KeyReused("this key was used for another request")
            self._in_work.add(key)
        try:
            yield Slot(
                None if found is None else Receipt(*found[1:]),
                lambda receipt: self._keep(key, request, receipt),
            )
        finally:
            with self._lock:
                self._in_work.discard(key)

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._file.close()

    def _keep(self, key: str, request: bytes, receipt: Receipt) -> None:
        values = (key, request, receipt.status, receipt.body, self._now())
        with self._lock, sqlite_errors():
            self._file.execute("INSERT OR REPLACE INTO receipts VALUES (?, ?, ?, ?, ?)", values)

    def _open(self) -> None:
        with sqlite_errors():
            self._file = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
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
                "CREATE TABLE receipts (key TEXT PRIMARY KEY, request BLOB NOT NULL, status INTEGER NOT NULL,"
                " body BLOB NOT NULL, answered_at REAL NOT NULL) WITHOUT ROWID"
            )
            self._file.execute("CREATE INDEX receipts_by_age ON receipts (answered_at)")
            self._file.execute(f"PRAGMA user_version = {VERSION}")
