"""API keys, in one SQLite file, `keys.sqlite`: what each grants, and a hash of its secret.

A key is `precis_ID_SECRET`. The file is read at every request, so that a revoked key ends at once.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from index.collections import check_name
from index.errors import StoreTooNew
from index.files import store_errors
from index.store.connections import sqlite_errors
from service.rate_limits import NO_LIMITS, Limits

Scope = Literal["read", "write", "admin"]
# Each includes those before it.
SCOPES: tuple[Scope, ...] = ("read", "write", "admin")

FILE_NAME = "keys.sqlite"
VERSION = 2  # PRAGMA user_version
_PREFIX = "precis"
_ID_BYTES = 6
_SECRET_BYTES = 32
_COLUMNS = (
    "id, name, scope, collections, created_at_ms, revoked_at_ms, digest,"
    " requests_per_minute, body_bytes_per_day"
)
_TABLE = """
CREATE TABLE keys (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    scope TEXT NOT NULL CHECK (scope IN ('read', 'write', 'admin')),
    collections TEXT,  -- a JSON list of names; NULL for a key to everything
    created_at_ms INTEGER NOT NULL,
    revoked_at_ms INTEGER,
    digest BLOB NOT NULL
) WITHOUT ROWID
"""
# Since version 2; NULL where the limit of the settings holds.
_NEW_COLUMNS = (
    "ALTER TABLE keys ADD COLUMN requests_per_minute INTEGER",
    "ALTER TABLE keys ADD COLUMN body_bytes_per_day INTEGER",
)
_NO_DIGEST = bytes(hashlib.sha256().digest_size)


@dataclass(frozen=True)
class ApiKey:
    """A stored key, without its secret."""

    id: str
    name: str  # the owner's note
    scope: Scope
    collections: frozenset[str] | None  # None: everything
    created_at_ms: int  # Unix time
    revoked_at_ms: int | None
    limits: Limits = NO_LIMITS


class ApiKeys:
    """The keys of a data folder. Thread-safe; another process may change them meanwhile."""

    def __init__(self, folder: Path, now: Callable[[], float] = time.time) -> None:
        """Opens nothing: a folder without keys gets its file with its first key."""
        self._path = folder / FILE_NAME
        self._now = now
        self._lock = threading.Lock()
        self._file: sqlite3.Connection | None = None

    def create(
        self,
        name: str,
        scope: Scope,
        collections: Iterable[str] = (),
        limits: Limits = NO_LIMITS,
    ) -> tuple[ApiKey, str]:
        """A new key and its text, which is nowhere stored; without `collections`, to everything.

        Limits that are None are those of the settings.

        Raises index.errors.InvalidCollectionName, StoreError.
        """
        names = frozenset(collections)
        for collection in names:
            check_name(collection)
        key = ApiKey(
            id=secrets.token_hex(_ID_BYTES),
            name=name,
            scope=scope,
            collections=names or None,
            created_at_ms=self._now_ms(),
            revoked_at_ms=None,
            limits=limits,
        )
        secret = secrets.token_urlsafe(_SECRET_BYTES)
        values = (
            key.id,
            name,
            scope,
            _collections_text(key.collections),
            key.created_at_ms,
            None,
            _digest(key, secret),
            limits.requests_per_minute,
            limits.body_bytes_per_day,
        )
        with store_errors("the data folder cannot be created"):
            self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._lock, sqlite_errors():
            file = self._open()
            file.execute(
                f"INSERT INTO keys ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                values,
            )
        return key, f"{_PREFIX}_{key.id}_{secret}"

    def all(self) -> list[ApiKey]:
        """All keys, revoked ones too, oldest first. Raises StoreError."""
        rows = self._query(f"SELECT {_COLUMNS} FROM keys ORDER BY created_at_ms, id")
        return [key for key, _ in map(_key_and_digest, rows)]

    def exist(self) -> bool:
        """Whether a key was ever made. Raises StoreError."""
        return bool(self._query("SELECT 1 FROM keys LIMIT 1"))

    def find(self, text: str) -> ApiKey | None:
        """The key with this text, None for an unknown or a revoked one. Raises StoreError."""
        prefix, _, rest = text.partition("_")
        id_, _, secret = rest.partition("_")
        if prefix != _PREFIX or not text.isascii():
            return None
        rows = self._query(f"SELECT {_COLUMNS} FROM keys WHERE id = ?", id_)
        if not rows:
            # As much work as for a known id, so that the time tells nothing.
            hmac.compare_digest(hashlib.sha256(secret.encode()).digest(), _NO_DIGEST)
            return None
        key, digest = _key_and_digest(rows[0])
        is_right = hmac.compare_digest(_digest(key, secret), digest)
        return key if is_right and key.revoked_at_ms is None else None

    def revoke(self, id: str) -> bool:
        """Ends a key; whether there was such a key in force. Raises StoreError."""
        if not self._path.exists():
            return False
        query = (
            "UPDATE keys SET revoked_at_ms = ? WHERE id = ? AND revoked_at_ms IS NULL"
        )
        with self._lock, sqlite_errors():
            changed = self._open().execute(query, (self._now_ms(), id)).rowcount
        return bool(changed)

    def close(self) -> None:
        """Closes the file; the next call opens it again."""
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None

    def _query(self, query: str, *values: str) -> list[tuple[object, ...]]:
        # A mere question must not create the file.
        if self._file is None and not self._path.exists():
            return []
        with self._lock, sqlite_errors():
            return self._open().execute(query, values).fetchall()

    def _open(self) -> sqlite3.Connection:
        if self._file is None:
            file = sqlite3.connect(
                self._path, isolation_level=None, check_same_thread=False
            )
            try:
                _prepare(file)
            except BaseException:
                file.close()
                raise
            self._file = file
        return self._file

    def _now_ms(self) -> int:
        return int(self._now() * 1000)


def _prepare(file: sqlite3.Connection) -> None:
    file.execute("PRAGMA journal_mode = WAL")
    file.execute("PRAGMA synchronous = FULL")
    file.execute("PRAGMA fullfsync = ON")
    # Two processes may make the first key at once.
    file.execute("BEGIN IMMEDIATE")
    (version,) = file.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        raise StoreTooNew(f"{FILE_NAME} was written by a later version of Précis")
    if version == 0:
        file.execute(_TABLE)
    if version < VERSION:
        for statement in _NEW_COLUMNS:
            file.execute(statement)
        file.execute(f"PRAGMA user_version = {VERSION}")
    file.execute("COMMIT")


def _digest(key: ApiKey, secret: str) -> bytes:
    # A plain hash is enough for 256 random bits. It covers what the key grants: damage to a scope
    # or a list of collections must end the key, not widen it.
    granted = [key.id, key.scope, _collections_text(key.collections), secret]
    limits = [key.limits.requests_per_minute, key.limits.body_bytes_per_day]
    if any(limits):
        # Else the digest is that of version 1, which had no limits.
        granted += map(str, limits)
    return hashlib.sha256(json.dumps(granted).encode()).digest()


def _collections_text(collections: frozenset[str] | None) -> str | None:
    return None if collections is None else json.dumps(sorted(collections))


def _key_and_digest(columns: tuple[object, ...]) -> tuple[ApiKey, bytes]:
    id_, name, scope, collections, created_at_ms, revoked_at_ms, digest, *limits = (
        columns
    )
    names = None if collections is None else frozenset(json.loads(str(collections)))
    key = ApiKey(
        id=str(id_),
        name=str(name),
        scope=scope,  # type: ignore[arg-type]  # the table checks it
        collections=names,
        created_at_ms=int(str(created_at_ms)),
        revoked_at_ms=_optional_int(revoked_at_ms),
        limits=Limits(*map(_optional_int, limits)),
    )
    return key, digest if isinstance(digest, bytes) else b""


def _optional_int(value: object) -> int | None:
    return None if value is None else int(str(value))
