"""Token store in one SQLite file: one writer, any number of readers, every commit on the disk
before it returns.

Knows nothing of codecs' insides or of vector indexes. docs/storage.md describes the file.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from index.concurrency import FolderLock
from index.errors import (
    RecordDamaged,
    StoreBusy,
    StoreClosed,
    StoreDamaged,
    StoreError,
    StoreFull,
    StoreReadOnly,
)
from index.filters import Condition, Filter, Value, metadata_terms
from index.ports import Picture, Record, StoreSizes
from index.store.record_format import (
    check_update,
    decode_picture,
    decode_record,
    embedding_byte_count,
    encode_batch,
    encode_picture,
    encode_record,
)
from index.store.schema import migrate

# Filters over metadata as SQL over the table `terms`.
#  Values are always bound, never written into the text of a query.


_OPERATORS = {"eq": "=", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}


def matching_rows(where: Filter | None) -> tuple[str, list[Value]]:
    """What to append to a WHERE clause over the column `row`, and the values to bind."""
    if where is None or not where.conditions:
        return "", []
    selects: list[str] = []
    values: list[Value] = []
    for condition in where.conditions:
        text, bound = _select(condition)
        selects.append(text)
        values += bound
    return f" AND row IN ({' INTERSECT '.join(selects)})", values


def _select(condition: Condition) -> tuple[str, list[Value]]:
    text = "SELECT row FROM terms WHERE name = ?"
    bound: list[Value] = [condition.name]
    if condition.choices is not None:
        text += f" AND value IN ({','.join('?' * len(condition.choices))})"
        bound += condition.choices
    for key, value in condition.comparisons:
        # In SQLite every text is greater than every number; here they do not compare, and '' is the
        # least text.
        kind = "value >= ''" if isinstance(value, str) else "value < ''"
        text += f" AND value {_OPERATORS[key]} ? AND {kind}"
        bound.append(value)
    return text, bound


_T = TypeVar("_T")

FILE_NAME = "images.sqlite"
LOCK_NAME = "images.lock"
PAGE_BYTES = 8192  # several records of a kilobyte or two share a page with little left over
# Whatever damage did to the type of the value, its bytes are read and then checked.
_RECORD = "row, id, CAST(record AS BLOB)"
_IDLE_READERS = 8  # each has a page cache of up to 2 MB
_KEYS_A_QUERY = 500  # below SQLite's limit of bound values in every build
_SCAN_RECORDS = 256  # records read at a time by a scan, so that no read transaction lasts

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
def sqlite_errors() -> Iterator[None]:
    """Turns SQLite's errors into ours."""
    try:
        yield
    except sqlite3.ProgrammingError as error:
        if "closed" in str(error):
            raise StoreClosed("the store is closed") from error
        raise StoreError(f"the store failed: {error}") from error
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0)
        kind = _ERRORS.get(code & 0xFF, StoreError)  # the low byte is the primary code
        raise kind(f"the store failed: {error}") from error


class SqliteStore:
    """See TokenStore."""

    def __init__(self, folder: Path) -> None:
        """Opens or creates the store in `folder`. Raises StoreBusy, StoreReadOnly, StoreTooNew,
        StoreDamaged.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreReadOnly(f"the data folder cannot be made: {error.strerror}") from error
        self._path = folder / FILE_NAME
        self._closed = False
        self._store_id = ""
        self._write_lock = threading.Lock()
        self._readers: list[
            sqlite3.Connection
        ] = []  # idle ones; a thread takes one or opens another
        self._lock = FolderLock(folder / LOCK_NAME)
        try:
            with sqlite_errors():
                self._writer = self.connect()
                try:
                    self._prepare()
                except BaseException:
                    self._writer.close()
                    raise
        except BaseException:
            self._lock.release()
            raise

    @property
    def store_id(self) -> str:
        """See TokenStore."""
        return self._store_id

    def put(self, batch: Sequence[Record]) -> list[int]:
        """See TokenStore."""
        encoded = encode_batch(batch)
        if not batch:
            return []
        with self._transaction() as writer:
            self._drop([record.id for record in batch])
            numbers = {
                fingerprint: self._number(fingerprint)
                for fingerprint in {r.fingerprint for r in batch}
            }
            first = _last_row(writer) + 1
            rows = list(range(first, first + len(batch)))
            writer.executemany(
                "INSERT INTO images (row, id, fingerprint, token_bytes, embedding_bytes, record)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (
                        row,
                        r.id,
                        numbers[r.fingerprint],
                        len(r.tokens),
                        embedding_byte_count(r.embedding.size),
                        data,
                    )
                    for row, r, data in zip(rows, batch, encoded, strict=True)
                ],
            )
            writer.executemany(
                "INSERT INTO pictures (row, picture) VALUES (?, ?)",
                [
                    (row, encode_picture(r.id, r.picture))
                    for row, r in zip(rows, batch, strict=True)
                    if r.picture
                ],
            )
            self._add_terms(list(zip(rows, batch, strict=True)))
        return rows

    def update(self, changed: Sequence[tuple[int, Record]]) -> list[bool]:
        """See TokenStore."""
        there = []
        with self._transaction() as writer:
            for row, record in changed:
                found = writer.execute(
                    f"SELECT {_RECORD} FROM images WHERE row = ?", (row,)
                ).fetchone()
                there.append(found is not None)
                if found is None:
                    continue
                old, has_picture = _decoded(*found)
                check_update(old, record)
                self._drop_terms([(row, old)])
                self._add_terms([(row, record)])
                writer.execute(
                    "UPDATE images SET token_bytes = ?, embedding_bytes = ?, record = ? WHERE row = ?",
                    (
                        len(record.tokens),
                        embedding_byte_count(record.embedding.size),
                        encode_record(record, has_picture=has_picture),
                        row,
                    ),
                )
        return there

    def get_many(
        self, ids: Sequence[str], *, with_picture: bool = False
    ) -> list[tuple[int, Record] | None]:
        """See TokenStore."""
        found: dict[str, tuple[int, Record]] = {}
        with self._reading() as reader:
            for some in _chunks(list(dict.fromkeys(ids))):
                query = f"SELECT {_RECORD} FROM images WHERE id IN ({_marks(some)})"
                for row, id_, data in reader.execute(query, some).fetchall():
                    record, has_picture = _decoded(row, id_, data)
                    if with_picture and has_picture:
                        record = _with_picture(record, self._picture(reader, row, id_))
                    found[id_] = (row, record)
        return [found.get(id_) for id_ in ids]

    def get_rows(self, rows: Sequence[int]) -> list[Record | None]:
        """See TokenStore."""
        found: dict[int, Record] = {}
        with self._reading() as reader:
            for some in _chunks([int(row) for row in rows]):
                query = f"SELECT {_RECORD} FROM images WHERE row IN ({_marks(some)})"
                for row, id_, data in reader.execute(query, some):
                    found[row] = _decoded(row, id_, data)[0]
        return [found.get(int(row)) for row in rows]

    def rows(self, fingerprint: str, where: Filter | None = None) -> NDArray[np.int64]:
        """See TokenStore."""
        matching, values = matching_rows(where)
        query = (
            "SELECT row FROM images INDEXED BY images_by_fingerprint"
            f" WHERE fingerprint = (SELECT number FROM fingerprints WHERE fingerprint = ?){matching} ORDER BY row"
        )
        with self._reading() as reader:
            found = reader.execute(query, (fingerprint, *values))
            return np.fromiter((row for (row,) in found), dtype=np.int64)

    def last_row(self) -> int:
        """See TokenStore."""
        with self._reading() as reader:
            return _last_row(reader)

    def delete(self, ids: Sequence[str]) -> list[int | None]:
        """See TokenStore."""
        with self._transaction():
            rows = self._drop(list(dict.fromkeys(ids)))
        # pop: of an id named twice, only the first was there.
        return [rows.pop(id_, None) for id_ in ids]

    def scan(self, *, after_row: int = 0, limit: int | None = None) -> Iterator[tuple[int, Record]]:
        """See TokenStore."""
        query = f"SELECT {_RECORD} FROM images WHERE row > ? ORDER BY row LIMIT ?"
        left = limit
        while left is None or left > 0:
            count = _SCAN_RECORDS if left is None else min(left, _SCAN_RECORDS)
            with self._reading() as reader:
                found = reader.execute(query, (after_row, count)).fetchall()
            for row, id_, data in found:
                yield row, _decoded(row, id_, data)[0]
            if len(found) < count:
                return
            after_row = found[-1][0]
            left = None if left is None else left - count

    def sizes(self) -> StoreSizes:
        """See TokenStore."""
        query = (
            "SELECT images, token_bytes, embedding_bytes, record_bytes, picture_bytes FROM store"
        )
        with self._reading() as reader:
            images, tokens, embeddings, records, pictures = reader.execute(query).fetchone()
        files = [self._path.with_name(FILE_NAME + suffix) for suffix in ("", "-wal", "-shm")]
        file_bytes = sum(file.stat().st_size for file in files if file.exists())
        return StoreSizes(images, tokens, embeddings, records, pictures, file_bytes)

    def close(self) -> None:
        """See TokenStore."""
        with self._write_lock:
            if self._closed:
                return
            self._closed = True
            try:
                while self._readers:
                    self._readers.pop().close()
                self._writer.close()
            finally:
                self._lock.release()

    def connect(self) -> sqlite3.Connection:
        """Another connection to the file, for the one who checks it; the caller closes it."""
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        connection.text_factory = lambda data: data.decode(
            errors="replace"
        )  # a damaged id must not end a scan
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(
            "PRAGMA fullfsync = ON"
        )  # where fsync alone does not reach the disk (macOS)
        return connection

    def _prepare(self) -> None:
        self._writer.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        self._writer.execute("PRAGMA journal_mode = WAL")
        migrate(self._writer)
        (store_id,) = self._writer.execute("SELECT store_id FROM store").fetchone()
        self._store_id = str(store_id)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """The one writer, in a transaction that is on the disk when the block is left."""
        with self._write_lock, sqlite_errors():
            if self._closed:
                raise StoreClosed("the store is closed")
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            except BaseException:
                # Some errors (a full disk) have rolled back already.
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with sqlite_errors():
            if self._closed:
                raise StoreClosed("the store is closed")
            try:
                reader = self._readers.pop()
            except IndexError:
                reader = self.connect()
            try:
                yield reader
            except BaseException:
                reader.close()
                raise
            if len(self._readers) < _IDLE_READERS:
                self._readers.append(reader)
            else:
                reader.close()
            if self._closed:  # closed meanwhile: nobody else will empty the list again
                with contextlib.suppress(IndexError):
                    self._readers.pop().close()

    def _number(self, fingerprint: str) -> int:
        self._writer.execute(
            "INSERT OR IGNORE INTO fingerprints (fingerprint) VALUES (?)", (fingerprint,)
        )
        query = "SELECT number FROM fingerprints WHERE fingerprint = ?"
        (number,) = self._writer.execute(query, (fingerprint,)).fetchone()
        return int(number)

    def _drop(self, ids: Sequence[str]) -> dict[str, int]:
        """Deletes within the transaction; the row of each id that was there."""
        dropped: dict[str, int] = {}
        whole: list[tuple[int, Record]] = []
        damaged: list[int] = []
        for some in _chunks(ids):
            query = f"SELECT {_RECORD} FROM images WHERE id IN ({_marks(some)})"
            for row, id_, data in self._writer.execute(query, some):
                dropped[id_] = row
                try:
                    whole.append((row, _decoded(row, id_, data)[0]))
                except RecordDamaged:
                    damaged.append(row)
        rows = [(row,) for row in dropped.values()]
        self._writer.executemany("DELETE FROM images WHERE row = ?", rows)
        self._writer.executemany("DELETE FROM pictures WHERE row = ?", rows)
        self._drop_terms(whole)
        for row in damaged:  # its terms are unknown: a damaged record must still be deletable
            self._writer.execute("DELETE FROM terms WHERE row = ?", (row,))
        return dropped

    def _add_terms(self, records: Sequence[tuple[int, Record]]) -> None:
        terms = [
            (*term, row) for row, record in records for term in metadata_terms(record.metadata)
        ]
        self._writer.executemany("INSERT INTO terms (name, value, row) VALUES (?, ?, ?)", terms)

    def _drop_terms(self, records: Sequence[tuple[int, Record]]) -> None:
        terms = [
            (*term, row) for row, record in records for term in metadata_terms(record.metadata)
        ]
        self._writer.executemany(
            "DELETE FROM terms WHERE name = ? AND value = ? AND row = ?", terms
        )

    @staticmethod
    def _picture(reader: sqlite3.Connection, row: int, id_: str) -> Picture | None:
        found = reader.execute(
            "SELECT CAST(picture AS BLOB) FROM pictures WHERE row = ?", (row,)
        ).fetchone()
        if found is not None:
            return decode_picture(id_, found[0] or b"")
        if reader.execute("SELECT 1 FROM images WHERE row = ?", (row,)).fetchone() is None:
            return None  # deleted between the two reads
        raise RecordDamaged("the picture of a record is missing", row=row, id=id_)


def _decoded(row: int, id_: str, data: bytes | None) -> tuple[Record, bool]:
    try:
        record, has_picture = decode_record(data or b"")
    except RecordDamaged as error:
        raise RecordDamaged(f"{error} (row {row})", row=row, id=id_) from error
    if record.id != id_:
        raise RecordDamaged(f"a record stands in another's place (row {row})", row=row, id=id_)
    return record, has_picture


def _with_picture(record: Record, picture: Picture | None) -> Record:
    return replace(record, picture=picture)


def _last_row(connection: sqlite3.Connection) -> int:
    found = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'images'").fetchone()
    return int(found[0]) if found else 0


def _chunks(items: Sequence[_T]) -> Iterable[Sequence[_T]]:
    return (items[start : start + _KEYS_A_QUERY] for start in range(0, len(items), _KEYS_A_QUERY))


def _marks(items: Sequence[object]) -> str:
    return ",".join("?" * len(items))
