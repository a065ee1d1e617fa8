"""Token store in one SQLite file; docs/storage.md describes it.

One writer, any number of readers; every commit is on the disk before its call returns.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from index.concurrency import lock_folder
from index.errors import RecordDamaged, StoreClosed, StoreError
from index.files import store_errors
from index.filters import Filter, Value, metadata_terms
from index.ports import ClosedError, Ints, Picture, Record, StoreSizes, TextAndRow
from index.store.connections import Connections, sqlite_errors
from index.store.filter_sql import FilterSql, Select, SqliteTerms
from index.store.record_format import (
    check_update,
    decode_picture,
    decode_row,
    embedding_byte_count,
    encode_batch,
    encode_picture,
    encode_record,
)
from index.store.schema import migrate

log = logging.getLogger(__name__)

FILE_NAME = "images.sqlite"
LOCK_NAME = "images.lock"
# The cast undoes what damage to a row's header does to the type of a value; the bytes are then
# checked like all others.
_RECORD = "row, id, CAST(record AS BLOB)"
_KEYS_PER_QUERY = 500  # below SQLite's limit of bound values in every build
_SCAN_RECORDS = 256  # per query of a scan
_LAST_POSSIBLE_ROW = 2**63 - 1
_LAST_CHARACTER = chr(sys.maxunicode)
_FILTERS = FilterSql(SqliteTerms())

_T = TypeVar("_T")


class SqliteStore:
    """See TokenStore."""

    def __init__(self, folder: Path) -> None:
        """Opens or creates the store in `folder`.

        Raises StoreBusy, StoreReadOnly, StoreTooNew, StoreDamaged.
        """
        with store_errors("the data folder cannot be created"):
            folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / FILE_NAME
        # A lock of our own, though SQLite has one: two processes may take turns to write to a
        # SQLite file, but each would keep a vector index that misses what the other wrote.
        self._lock = lock_folder(folder / LOCK_NAME)
        try:
            with sqlite_errors():
                self._connections = Connections(self._path)
                self._store_id = self._prepare()
        except BaseException:
            self._lock.release()
            raise

    def _prepare(self) -> str:
        try:
            writer = self._connections.prepare()
            migrate(writer)
            (store_id,) = writer.execute("SELECT store_id FROM store").fetchone()
        except BaseException:
            self._connections.close()
            raise
        return str(store_id)

    @property
    def store_id(self) -> str:
        """See TokenStore."""
        return self._store_id

    def put(self, batch: Sequence[Record]) -> list[int]:
        """See TokenStore."""
        # Encoded before the transaction begins: it holds the one writer.
        encoded = encode_batch(batch)
        if not batch:
            return []
        with self._connections.transaction() as writer:
            _delete(writer, [record.id for record in batch])
            first = _last_row(writer) + 1
            rows = list(range(first, first + len(batch)))
            numbered = list(zip(rows, batch, strict=True))
            _insert_images(writer, numbered, encoded)
            _insert_pictures(writer, numbered)
            _insert_terms(writer, numbered)
        return rows

    def update(self, changed: Sequence[tuple[int, Record]]) -> list[bool]:
        """See TokenStore."""
        with self._connections.transaction() as writer:
            return [_update(writer, row, record) for row, record in changed]

    def get_many(
        self, ids: Sequence[str], *, with_picture: bool = False
    ) -> list[tuple[int, Record] | None]:
        """See TokenStore."""
        records: dict[str, tuple[int, Record]] = {}
        with self._connections.reader() as reader:
            for chunk in _chunks(list(dict.fromkeys(ids))):
                query = (
                    f"SELECT {_RECORD} FROM images WHERE id IN ({_placeholders(chunk)})"
                )
                # Fetched at once: reading a picture inside an open cursor would keep its read
                # transaction, and with it the write-ahead log, alive.
                columns = reader.execute(query, chunk).fetchall()
                for row, id_, data in columns:
                    record, has_picture = decode_row(row, id_, data)
                    if with_picture and has_picture:
                        picture = _read_picture(reader, row, id_)
                        record = replace(record, picture=picture)
                    records[id_] = (row, record)
        return [records.get(id_) for id_ in ids]

    def get_rows(self, rows: Sequence[int]) -> list[Record | None]:
        """See TokenStore."""
        # NumPy's integers, which SQLite would bind as blobs, become Python's.
        rows = [int(row) for row in rows]
        records: dict[int, Record] = {}
        with self._connections.reader() as reader:
            for chunk in _chunks(rows):
                query = f"SELECT {_RECORD} FROM images WHERE row IN ({_placeholders(chunk)})"
                for row, id_, data in reader.execute(query, chunk):
                    records[row], _ = decode_row(row, id_, data)
        return [records.get(row) for row in rows]

    def rows(
        self,
        fingerprint: str | None,
        where: Filter | None = None,
        *,
        id_prefix: str = "",
    ) -> Ints:
        """See TokenStore."""
        matching, values = _matching(where, id_prefix)
        if fingerprint is None:
            query = "SELECT row FROM images WHERE TRUE"
        else:
            # INDEXED BY: the index alone answers. Without statistics the planner may prefer to
            # walk the table, and read every page of records to get their rows.
            query = (
                "SELECT row FROM images INDEXED BY images_by_fingerprint WHERE"
                " fingerprint = (SELECT number FROM fingerprints WHERE fingerprint = ?)"
            )
            values.insert(0, fingerprint)
        query += f"{matching} ORDER BY row"
        with self._connections.reader() as reader:
            rows = reader.execute(query, values).fetchall()
        return np.array(rows, dtype=np.int64).reshape(-1)

    def rows_by_text(
        self,
        fingerprint: str,
        name: str,
        where: Filter | None = None,
        *,
        id_prefix: str = "",
        before: TextAndRow | None = None,
        limit: int,
    ) -> list[TextAndRow]:
        """See TokenStore."""
        matching, filter_values = _matching(where, id_prefix)
        values: list[Value] = [name, fingerprint, *filter_values]
        behind = ""
        if before is not None:
            behind = " HAVING (MAX(value), row) < (?, ?)"
            values += before
        # The least text is '', and every number sorts before it.
        query = (
            "SELECT MAX(value) AS text, row FROM terms WHERE name = ? AND value >= ''"
            " AND row IN (SELECT row FROM images INDEXED BY images_by_fingerprint"
            " WHERE fingerprint ="
            " (SELECT number FROM fingerprints WHERE fingerprint = ?))"
            f"{matching} GROUP BY row{behind} ORDER BY text DESC, row DESC LIMIT ?"
        )
        with self._connections.reader() as reader:
            return reader.execute(query, (*values, limit)).fetchall()

    def last_row(self) -> int:
        """See TokenStore."""
        with self._connections.reader() as reader:
            return _last_row(reader)

    def delete(self, ids: Sequence[str]) -> list[int | None]:
        """See TokenStore."""
        with self._connections.transaction() as writer:
            rows = _delete(writer, list(dict.fromkeys(ids)))
        if rows:
            self._give_back_space()
        # `pop`: an id that occurs twice was there the first time only.
        return [rows.pop(id_, None) for id_ in ids]

    def _give_back_space(self) -> None:
        # Behind the commit: what fails here leaves free pages, which the next deletion gives back,
        # and must not make of a deletion that is done one that failed.
        try:
            self._connections.give_back_space()
        except StoreError as error:
            log.warning("the space of deleted images was not given back: %s", error)

    def scan(
        self, *, after_row: int = 0, limit: int | None = None
    ) -> Iterator[tuple[int, Record]]:
        """See TokenStore."""
        query = f"SELECT {_RECORD} FROM images WHERE row > ? ORDER BY row LIMIT ?"
        return self._blocks(query, after_row, limit)

    def scan_back(
        self, *, before_row: int | None = None
    ) -> Iterator[tuple[int, Record]]:
        """See TokenStore."""
        query = f"SELECT {_RECORD} FROM images WHERE row < ? ORDER BY row DESC LIMIT ?"
        first = _LAST_POSSIBLE_ROW if before_row is None else before_row
        return self._blocks(query, first, None)

    def _blocks(
        self, query: str, row_before: int, limit: int | None
    ) -> Iterator[tuple[int, Record]]:
        """The records of a query, in its order; it binds the row before the first, and a limit."""
        # Block by block: one long cursor would hold a read transaction for as long as the caller
        # takes, and the write-ahead log could not be folded into the file meanwhile.
        remaining = limit
        while remaining is None or remaining > 0:
            count = (
                _SCAN_RECORDS if remaining is None else min(remaining, _SCAN_RECORDS)
            )
            with self._connections.reader() as reader:
                block = reader.execute(query, (row_before, count)).fetchall()
            for row, id_, data in block:
                record, _ = decode_row(row, id_, data)
                yield row, record
            if len(block) < count:
                return
            row_before = block[-1][0]
            if remaining is not None:
                remaining -= count

    def sizes(self) -> StoreSizes:
        """See TokenStore."""
        columns = "images, token_bytes, embedding_bytes, record_bytes, picture_bytes"
        with self._connections.reader() as reader:
            row = reader.execute(f"SELECT {columns} FROM store").fetchone()
        images, token_bytes, embedding_bytes, record_bytes, picture_bytes = row
        file_bytes = 0
        for suffix in ("", "-wal", "-shm"):
            file = self._path.with_name(FILE_NAME + suffix)
            if file.exists():
                file_bytes += file.stat().st_size
        return StoreSizes(
            images,
            token_bytes,
            embedding_bytes,
            record_bytes,
            picture_bytes,
            file_bytes,
        )

    def close(self, error: ClosedError = StoreClosed) -> None:
        """See TokenStore."""
        try:
            self._connections.close(error)
        finally:
            # Last: whoever takes the lock next must find no connection of ours.
            self._lock.release()

    def connect(self) -> sqlite3.Connection:
        """A further connection to the file, for a check; the caller closes it."""
        return self._connections.connect()


def count_images(folder: Path) -> int:
    """How many images are in the store in `folder`, open elsewhere or not. Raises StoreError."""
    with sqlite_errors(), contextlib.closing(read_only(folder / FILE_NAME)) as file:
        (images,) = file.execute("SELECT images FROM store").fetchone()
    return int(images)


def read_only(path: Path) -> sqlite3.Connection:
    """A connection that changes nothing. Raises sqlite3.Error; without a file too."""
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)


def _matching(where: Filter | None, id_prefix: str) -> Select:
    text, values = _FILTERS.matching_rows(where)
    if id_prefix:
        # A range, which the index of the ids answers; no text that begins so sorts behind it.
        text += " AND row IN (SELECT row FROM images WHERE id >= ? AND id < ?)"
        values += [id_prefix, id_prefix + _LAST_CHARACTER]
    return text, values


def _insert_images(
    writer: sqlite3.Connection,
    numbered: Sequence[tuple[int, Record]],
    encoded: Sequence[bytes],
) -> None:
    fingerprints = {record.fingerprint for _, record in numbered}
    numbers = {
        fingerprint: _number(writer, fingerprint) for fingerprint in fingerprints
    }
    values = []
    for (row, record), data in zip(numbered, encoded, strict=True):
        number = numbers[record.fingerprint]
        embedding_bytes = embedding_byte_count(record.embedding.size)
        token_bytes = len(record.tokens)
        values.append((row, record.id, number, token_bytes, embedding_bytes, data))
    writer.executemany(
        "INSERT INTO images (row, id, fingerprint, token_bytes, embedding_bytes, record)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        values,
    )


def _insert_pictures(
    writer: sqlite3.Connection, numbered: Sequence[tuple[int, Record]]
) -> None:
    # In a table of their own: a search reads many records, and pictures between them would push
    # the records' pages out of the cache.
    values = [
        (row, encode_picture(record.id, record.picture))
        for row, record in numbered
        if record.picture
    ]
    writer.executemany("INSERT INTO pictures (row, picture) VALUES (?, ?)", values)


def _number(writer: sqlite3.Connection, fingerprint: str) -> int:
    """The short number of a fingerprint, assigned at first use."""
    values = (fingerprint,)
    writer.execute(
        "INSERT OR IGNORE INTO fingerprints (fingerprint) VALUES (?)", values
    )
    query = "SELECT number FROM fingerprints WHERE fingerprint = ?"
    (number,) = writer.execute(query, values).fetchone()
    return int(number)


def _update(writer: sqlite3.Connection, row: int, record: Record) -> bool:
    query = f"SELECT {_RECORD} FROM images WHERE row = ?"
    columns = writer.execute(query, (row,)).fetchone()
    if columns is None:
        return False
    old, has_picture = decode_row(*columns)
    check_update(old, record)
    _delete_terms(writer, [(row, old)])
    _insert_terms(writer, [(row, record)])
    embedding_bytes = embedding_byte_count(record.embedding.size)
    data = encode_record(record, has_picture=has_picture)
    writer.execute(
        "UPDATE images SET token_bytes = ?, embedding_bytes = ?, record = ? WHERE row = ?",
        (len(record.tokens), embedding_bytes, data, row),
    )
    return True


def _delete(writer: sqlite3.Connection, ids: Sequence[str]) -> dict[str, int]:
    """Deletes within a transaction; the row of each id that was present."""
    rows: dict[str, int] = {}
    intact: list[tuple[int, Record]] = []
    damaged: list[tuple[int]] = []
    for chunk in _chunks(ids):
        query = f"SELECT {_RECORD} FROM images WHERE id IN ({_placeholders(chunk)})"
        for row, id_, data in writer.execute(query, chunk):
            rows[id_] = row
            try:
                record, _ = decode_row(row, id_, data)
                intact.append((row, record))
            except RecordDamaged:
                damaged.append((row,))
    deleted = [(row,) for row in rows.values()]
    writer.executemany("DELETE FROM images WHERE row = ?", deleted)
    writer.executemany("DELETE FROM pictures WHERE row = ?", deleted)
    _delete_terms(writer, intact)
    # The terms of a damaged record are unknown. Their row is not the key of their table, so this
    # scans it whole; but a damaged record must be deletable.
    writer.executemany("DELETE FROM terms WHERE row = ?", damaged)
    return rows


def _insert_terms(
    writer: sqlite3.Connection, numbered: Iterable[tuple[int, Record]]
) -> None:
    writer.executemany(
        "INSERT INTO terms (name, value, row) VALUES (?, ?, ?)", _terms(numbered)
    )


def _delete_terms(
    writer: sqlite3.Connection, numbered: Iterable[tuple[int, Record]]
) -> None:
    # By the whole key, which the record still tells: an index over rows would double the table.
    query = "DELETE FROM terms WHERE name = ? AND value = ? AND row = ?"
    writer.executemany(query, _terms(numbered))


def _terms(numbered: Iterable[tuple[int, Record]]) -> Iterator[tuple[str, Value, int]]:
    for row, record in numbered:
        for name, value in metadata_terms(record.metadata):
            yield name, value, row


def _read_picture(reader: sqlite3.Connection, row: int, id_: str) -> Picture | None:
    query = "SELECT CAST(picture AS BLOB) FROM pictures WHERE row = ?"
    columns = reader.execute(query, (row,)).fetchone()
    if columns is not None:
        return decode_picture(id_, columns[0] or b"")
    # A deletion may fall between the read of the record and that of its picture; only a record
    # that is still there has lost its picture.
    record_query = "SELECT 1 FROM images WHERE row = ?"
    if reader.execute(record_query, (row,)).fetchone() is None:
        return None
    raise RecordDamaged("the picture of a record is missing", row=row, id=id_)


def _last_row(connection: sqlite3.Connection) -> int:
    # From AUTOINCREMENT's own table: MAX(row) would fall back when the newest image is deleted.
    query = "SELECT seq FROM sqlite_sequence WHERE name = 'images'"
    columns = connection.execute(query).fetchone()
    return int(columns[0]) if columns else 0


def _chunks(keys: Sequence[_T]) -> Iterator[Sequence[_T]]:
    for start in range(0, len(keys), _KEYS_PER_QUERY):
        yield keys[start : start + _KEYS_PER_QUERY]


def _placeholders(values: Sequence[object]) -> str:
    return ",".join("?" * len(values))
