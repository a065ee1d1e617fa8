"""Connections to one SQLite file: a single writer, a pool of readers, errors as the index's own."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

from index.errors import (
    StoreBusy,
    StoreClosed,
    StoreDamaged,
    StoreError,
    StoreFull,
    StoreReadOnly,
)
from index.ports import ClosedError

PAGE_BYTES = (
    8192  # several records of one or two kilobytes share a page with little waste
)
_IDLE_READERS = 8  # each may hold a page cache of 2 MB

_ERRORS: dict[int, type[StoreError]] = {
    sqlite3.SQLITE_BUSY: StoreBusy,
    sqlite3.SQLITE_LOCKED: StoreBusy,
    sqlite3.SQLITE_FULL: StoreFull,
    sqlite3.SQLITE_READONLY: StoreReadOnly,
    sqlite3.SQLITE_PERM: StoreReadOnly,
    sqlite3.SQLITE_CANTOPEN: StoreReadOnly,
    sqlite3.SQLITE_CORRUPT: StoreDamaged,
    sqlite3.SQLITE_NOTADB: StoreDamaged,
}


@contextlib.contextmanager
def sqlite_errors(problem: str = "the store failed") -> Iterator[None]:
    """Turns an error of SQLite into a StoreError, whose message `problem` starts."""
    try:
        yield
    except sqlite3.ProgrammingError as error:
        # A reader may be closed under a thread that still uses it; Python has no code for that.
        if "closed" in str(error):
            raise StoreClosed from error
        raise StoreError(f"{problem}: {error}") from error
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0)
        # The low byte is the primary code; the rest tells apart causes that we treat alike.
        kind = _ERRORS.get(code & 0xFF, StoreError)
        raise kind(f"{problem}: {error}") from error


class Connections:
    """The connections of one store. Thread-safe."""

    def __init__(self, path: Path) -> None:
        """Opens or creates the file. Raises sqlite3.Error."""
        self._path = path
        self._closed = False
        self._closed_error: ClosedError = StoreClosed
        self._write_lock = threading.Lock()
        self._idle_readers: list[sqlite3.Connection] = []
        self._writer = self.connect()

    def connect(self) -> sqlite3.Connection:
        """A further connection, which the caller closes. Raises sqlite3.Error."""
        # No isolation level: Python would open transactions by itself, and late, so that a read
        # before the first write saw another state than the write.
        connection = sqlite3.connect(
            self._path, isolation_level=None, check_same_thread=False
        )
        # Damage may hit the text of an id: it must not end a scan with a UnicodeDecodeError.
        connection.text_factory = lambda data: data.decode(errors="replace")
        # FULL: with WAL, the weaker NORMAL may lose acknowledged commits at a power cut.
        connection.execute("PRAGMA synchronous = FULL")
        # On macOS a plain fsync leaves the data in the drive's cache.
        connection.execute("PRAGMA fullfsync = ON")
        # Deleted pictures are overwritten: whoever deletes one means it.
        connection.execute("PRAGMA secure_delete = ON")
        return connection

    def prepare(self) -> sqlite3.Connection:
        """Sets up the file and returns the writer, for migrations. Raises sqlite3.Error."""
        # The size of pages first: it is fixed once WAL mode has written the file's header.
        self._writer.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        (pages,) = self._writer.execute("PRAGMA page_count").fetchone()
        if pages == 0:
            # As early: only a file that was made so can give back the pages of deleted images,
            # except by being rewritten whole. Said of a file that is so already, it is a write.
            self._writer.execute("PRAGMA auto_vacuum = INCREMENTAL")
        # WAL: readers go on while a writer commits, and a commit needs one
        # fsync in place of several.
        self._writer.execute("PRAGMA journal_mode = WAL")
        return self._writer

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """The writer, in a transaction that is on the disk when the block ends without an error."""
        with self._write_lock, sqlite_errors():
            self._check_open()
            # IMMEDIATE takes SQLite's write lock now: a deferred transaction would take it at its
            # first write and could fail after its reads.
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            except BaseException:
                # Some errors, such as a full disk, make SQLite roll back by itself.
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise

    def give_back_space(self) -> None:
        """Shortens the file by its free pages, and empties the write-ahead log."""
        with self._write_lock, sqlite_errors():
            self._check_open()
            # As a script: SQLite frees one page a step, and `execute` takes a single step of a
            # statement that returns no columns. The log holds what was deleted as well; PASSIVE
            # would leave it there. Without a timeout TRUNCATE waits for no reader: what one of
            # them still needs is left to the next deletion.
            (timeout_ms,) = self._writer.execute("PRAGMA busy_timeout").fetchone()
            self._writer.executescript(
                "PRAGMA incremental_vacuum; PRAGMA busy_timeout = 0;"
                " PRAGMA wal_checkpoint(TRUNCATE);"
                f" PRAGMA busy_timeout = {timeout_ms}"
            )

    @contextlib.contextmanager
    def reader(self) -> Iterator[sqlite3.Connection]:
        """A connection for reading, from the pool."""
        with sqlite_errors():
            self._check_open()
            reader = self._take_reader()
            try:
                yield reader
            except BaseException:
                # It may be in the middle of a statement; a new one is cheap.
                reader.close()
                # If it was closed under this thread, the reason says more than SQLite does.
                self._check_open()
                raise
            self._return_reader(reader)

    def close(self, error: ClosedError = StoreClosed) -> None:
        """Closes all connections; does nothing the second time. Later calls raise `error`."""
        with self._write_lock:
            if self._closed:
                return
            self._closed_error = error
            self._closed = True
            while self._idle_readers:
                self._idle_readers.pop().close()
            # The last connection to close folds the write-ahead log into the file.
            self._writer.close()

    def _check_open(self) -> None:
        if self._closed:
            raise self._closed_error()

    def _take_reader(self) -> sqlite3.Connection:
        # No lock: `pop` and `append` of a list are atomic, and searches come from many threads.
        try:
            return self._idle_readers.pop()
        except IndexError:
            return self.connect()

    def _return_reader(self, reader: sqlite3.Connection) -> None:
        if len(self._idle_readers) < _IDLE_READERS:
            self._idle_readers.append(reader)
        else:
            reader.close()
        # The race with `close`: it may have emptied the pool just before this reader came back,
        # and no one would close it.
        if self._closed:
            with contextlib.suppress(IndexError):
                self._idle_readers.pop().close()
