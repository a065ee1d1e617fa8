"""Connections to one schema of a PostgreSQL database, and its errors as the index's own.

It knows nothing of tables.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import psycopg
from psycopg import Connection, sql
from psycopg.rows import TupleRow
from psycopg_pool import ConnectionPool, PoolClosed, PoolTimeout

from index.errors import (
    StoreAccessDenied,
    StoreBusy,
    StoreClosed,
    StoreDamaged,
    StoreError,
    StoreFull,
    StoreReadOnly,
    StoreUnreachable,
)
from index.ports import ClosedError

CONNECT_TIMEOUT_S = 10
_REASON_TIMEOUT_S = 2  # after the pool has waited for a connection; libpq's shortest
_MAX_CONNECTIONS = 8  # of one library; each waits for one answer at a time
_MAX_IDLE_S = 60.0  # so that a library nobody uses holds none

# By SQLSTATE, the longest prefix that fits: https://www.postgresql.org/docs/current/errcodes-appendix.html
_ERRORS: dict[str, type[StoreError]] = {
    "08": StoreUnreachable,  # connection exception
    "57P": StoreUnreachable,  # the server shuts down, or starts
    "28": StoreAccessDenied,  # invalid authorisation
    "42501": StoreAccessDenied,  # insufficient privilege
    "25006": StoreReadOnly,
    "53100": StoreFull,
    "53300": StoreBusy,  # too many connections
    "40": StoreBusy,  # deadlock, or a conflict of transactions
    "55P03": StoreBusy,  # lock not available
    "3F000": StoreDamaged,  # no such schema
    "42P01": StoreDamaged,  # no such table
    "42703": StoreDamaged,  # no such column
    "XX": StoreDamaged,  # internal error, data corrupted
}


@contextlib.contextmanager
def postgres_errors() -> Iterator[None]:
    """Turns an error of psycopg or of its pool into a StoreError."""
    try:
        yield
    except PoolClosed as error:
        raise StoreClosed from error
    except PoolTimeout as error:
        raise StoreUnreachable(
            f"PostgreSQL gave no connection within {CONNECT_TIMEOUT_S} s"
        ) from error
    except psycopg.Error as error:
        raise _kind(error)(f"PostgreSQL: {_line(error)}") from error


def _kind(error: psycopg.Error) -> type[StoreError]:
    # libpq tells no code when it could not connect, nor when a connection broke.
    if error.sqlstate is None:
        is_operational = isinstance(error, psycopg.OperationalError)
        return StoreUnreachable if is_operational else StoreError
    for length in (5, 3, 2):
        kind = _ERRORS.get(error.sqlstate[:length])
        if kind is not None:
            return kind
    return StoreError


def _line(error: psycopg.Error) -> str:
    """The message without the lines that quote a statement, which may hold a caller's values."""
    message = error.diag.message_primary or str(error)
    return " ".join(message.split())


def connect(conninfo: str) -> Connection[TupleRow]:
    """A connection for commands, in autocommit; the caller closes it. Raises psycopg.Error."""
    return psycopg.connect(conninfo, connect_timeout=CONNECT_TIMEOUT_S, autocommit=True)


class Connections:
    """The connections of one library to its schema. Thread-safe."""

    def __init__(self, conninfo: str, schema: str) -> None:
        """Opens none yet; `conninfo` is what libpq takes."""
        self._conninfo = conninfo
        self._schema = schema
        self._closed_error: ClosedError | None = None
        self._lock = threading.Lock()
        self._pool = ConnectionPool(
            conninfo,
            kwargs={"connect_timeout": CONNECT_TIMEOUT_S},
            min_size=0,
            max_size=_MAX_CONNECTIONS,
            max_idle=_MAX_IDLE_S,
            timeout=CONNECT_TIMEOUT_S,
            # While it lasts, the pool tries at ever longer intervals and heeds no new caller: by
            # default for so many minutes after the server is back.
            reconnect_timeout=CONNECT_TIMEOUT_S,
            configure=self._configure,
            # Else the first calls after a restart of the server would fail.
            check=ConnectionPool.check_connection,
            open=True,
        )

    def _configure(self, connection: Connection[TupleRow]) -> None:
        path = sql.SQL("SET search_path TO {}").format(sql.Identifier(self._schema))
        connection.execute(path)
        # What is acknowledged is on the server's disk, whatever its default. Stronger settings,
        # which wait for a standby, stay.
        connection.execute(
            "SELECT set_config('synchronous_commit', 'on', false)"
            " WHERE current_setting('synchronous_commit') = 'off'"
        )
        connection.commit()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Connection[TupleRow]]:
        """A connection in a transaction, which is committed when the block ends without an error.

        Raises StoreError.
        """
        self._check_open()
        try:
            with postgres_errors(), self._connection() as connection:
                yield connection
        except StoreError:
            # If it was closed under this thread, the reason says more than the pool does.
            self._check_open()
            raise

    @contextlib.contextmanager
    def _connection(self) -> Iterator[Connection[TupleRow]]:
        try:
            with self._pool.connection() as connection:
                yield connection
        except PoolTimeout:
            # The pool does not say why; a server that refuses does.
            psycopg.connect(self._conninfo, connect_timeout=_REASON_TIMEOUT_S).close()
            raise

    def close(self, error: ClosedError = StoreClosed) -> None:
        """Closes all connections; does nothing the second time. Later calls raise `error`."""
        with self._lock:
            if self._closed_error is not None:
                return
            self._closed_error = error
        self._pool.close()

    def _check_open(self) -> None:
        if self._closed_error is not None:
            raise self._closed_error()
