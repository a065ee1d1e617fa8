"""Token store in one schema of a PostgreSQL database; docs/storage.md describes it.

One writer at a time over all processes, any number of readers; a call returns after its commit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from psycopg import Connection
from psycopg.rows import TupleRow

from index.concurrency import lock_folder
from index.errors import RecordDamaged, StoreClosed, WrongFingerprint
from index.files import store_errors
from index.filters import Filter, metadata_terms
from index.ports import (
    Changes,
    ClosedError,
    Ints,
    Position,
    Record,
    StoreSizes,
    TextAndRow,
)
from index.store.filter_sql import FilterSql
from index.store.postgres.connections import Connections, connect, postgres_errors
from index.store.postgres.filter_sql import PostgresTerms, columns_of, name_is
from index.store.postgres.schema import migrate
from index.store.record_format import (
    check_update,
    decode_picture,
    decode_row,
    embedding_byte_count,
    encode_batch,
    encode_picture,
    encode_record,
)
from index.store.sqlite import LOCK_NAME

_SCAN_RECORDS = 256  # per query of a scan
_LAST_POSSIBLE_ROW = 2**63 - 1
_KEPT_REMOVALS = 100_000  # a process further behind compares all rows instead
_FILTERS = FilterSql(PostgresTerms())


@dataclass
class _Change:
    """What a transaction adds to the one row of the table `store`."""

    images: int = 0
    token_bytes: int = 0
    embedding_bytes: int = 0
    record_bytes: int = 0
    picture_bytes: int = 0

    def count(
        self, sign: int, token_bytes: int, embedding_bytes: int, all_bytes: int
    ) -> None:
        """Adds (sign 1) or takes away (-1) the bytes of a record."""
        self.token_bytes += sign * token_bytes
        self.embedding_bytes += sign * embedding_bytes
        self.record_bytes += sign * (all_bytes - token_bytes - embedding_bytes)


class PostgresStore:
    """See TokenStore. Several processes may have it open."""

    def __init__(self, conninfo: str, schema: str, folder: Path) -> None:
        """Opens or creates the store in a schema of the database that libpq finds at `conninfo`.

        `folder` is this process's own, for what it derives from the store. Raises StoreUnreachable,
        StoreAccessDenied, StoreTooNew, StoreDamaged, StoreBusy if another process has the folder.
        """
        with store_errors("the data folder cannot be created"):
            folder.mkdir(parents=True, exist_ok=True)
        self._schema = schema
        self._lock = lock_folder(folder / LOCK_NAME)
        try:
            with postgres_errors():
                self._claim = connect(conninfo)  # for `claim` alone
            self._store_id = self._prepare(conninfo, schema)
        except BaseException:
            self._lock.release()
            raise

    def _prepare(self, conninfo: str, schema: str) -> str:
        """Makes the tables if need be; the id of the store."""
        try:
            with postgres_errors():
                migrate(self._claim, schema)
            self._connections = Connections(conninfo, schema)
        except BaseException:
            self._claim.close()
            raise
        try:
            ((store_id,),) = self._fetch("SELECT store_id FROM store")
        except BaseException:
            self._connections.close()
            self._claim.close()
            raise
        return str(store_id)

    @property
    def store_id(self) -> str:
        """See TokenStore."""
        return self._store_id

    def put(self, batch: Sequence[Record]) -> list[int]:
        """See TokenStore."""
        # Encoded before the transaction begins: it holds the one writer's lock.
        encoded = encode_batch(batch)
        pictures = [
            encode_picture(record.id, record.picture) if record.picture else None
            for record in batch
        ]
        if not batch:
            return []
        with self._connections.transaction() as writer:
            last_row, last_removal = _lock(writer)
            rows = list(range(last_row + 1, last_row + 1 + len(batch)))
            change = _Change()
            removed = _delete(writer, [record.id for record in batch], change)
            _note_removals(writer, last_removal, list(removed.values()))
            _insert_images(writer, rows, batch, encoded, change)
            _insert_pictures(writer, rows, pictures, change)
            _insert_terms(writer, rows, batch)
            _apply(writer, change, rows[-1], last_removal + len(removed))
        return rows

    def update(self, changed: Sequence[tuple[int, Record]]) -> list[bool]:
        """See TokenStore."""
        with self._connections.transaction() as writer:
            last_row, last_removal = _lock(writer)
            change = _Change()
            outcomes = [_update(writer, row, record, change) for row, record in changed]
            _apply(writer, change, last_row, last_removal)
        return outcomes

    def get_many(
        self, ids: Sequence[str], *, with_picture: bool = False
    ) -> list[tuple[int, Record] | None]:
        """See TokenStore."""
        # One statement sees one moment: a deletion may not fall between a record and its picture.
        picture = "picture" if with_picture else "NULL"
        join = " LEFT JOIN pictures USING (row)" if with_picture else ""
        query = (
            f"SELECT row, id, record, {picture} FROM images{join} WHERE id = ANY(%s)"
        )
        keys = [_key(id_) for id_ in dict.fromkeys(ids)]
        records: dict[str, tuple[int, Record]] = {}
        for row, key, data, picture_data in self._fetch(query, (keys,)):
            record, has_picture = decode_row(row, _id(key), data)
            if with_picture and has_picture:
                if picture_data is None:
                    raise RecordDamaged(
                        "the picture of a record is missing", row=row, id=record.id
                    )
                decoded = decode_picture(record.id, picture_data)
                record = replace(record, picture=decoded)
            records[record.id] = (row, record)
        return [records.get(id_) for id_ in ids]

    def get_rows(self, rows: Sequence[int]) -> list[Record | None]:
        """See TokenStore."""
        numbers = [int(row) for row in rows]
        query = "SELECT row, id, record FROM images WHERE row = ANY(%s::bigint[])"
        records: dict[int, Record] = {}
        for row, key, data in self._fetch(query, (numbers,)):
            records[row], _ = decode_row(row, _id(key), data)
        return [records.get(row) for row in numbers]

    def rows(
        self,
        fingerprint: str | None,
        where: Filter | None = None,
        *,
        id_prefix: str = "",
    ) -> Ints:
        """See TokenStore."""
        matching, values = _matching(where, id_prefix)
        query = "SELECT row FROM images WHERE TRUE"
        if fingerprint is not None:
            query = (
                "SELECT row FROM images WHERE fingerprint ="
                " (SELECT number FROM fingerprints WHERE fingerprint = %s)"
            )
            values.insert(0, fingerprint)
        rows = self._fetch(f"{query}{matching} ORDER BY row", values)
        return _row_array(rows)

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
        named, name_values = name_is(name)
        matching, filter_values = _matching(where, id_prefix)
        values: list[Any] = [*name_values, fingerprint, *filter_values]
        behind = ""
        if before is not None:
            behind = " WHERE (text, row) < (%s, %s)"
            values += [before[0].encode(), before[1]]
        query = (
            "SELECT text, row FROM (SELECT DISTINCT ON (row) text, row FROM terms"
            f" WHERE {_bound(named)} AND text IS NOT NULL"
            " AND row IN (SELECT row FROM images WHERE fingerprint ="
            " (SELECT number FROM fingerprints WHERE fingerprint = %s))"
            f"{matching} ORDER BY row, text DESC) AS greatest{behind}"
            " ORDER BY text DESC, row DESC LIMIT %s"
        )
        places = self._fetch(query, (*values, limit))
        return [(text.decode(), row) for text, row in places]

    def last_row(self) -> int:
        """See TokenStore."""
        ((last_row,),) = self._fetch("SELECT last_row FROM store")
        return int(last_row)

    def position(self) -> Position:
        """See ChangeFeed."""
        ((row, removal),) = self._fetch("SELECT last_row, last_removal FROM store")
        return Position(row=int(row), removal=int(removal))

    def changes(self, fingerprint: str, after: Position) -> Changes:
        """See ChangeFeed."""
        position = self.position()
        removed = self._fetch(
            "SELECT row FROM removals WHERE number > %s AND number <= %s",
            (after.removal, position.removal),
        )
        # Rows up to the position were all committed before it was read.
        added = self._fetch(
            "SELECT row FROM images WHERE fingerprint ="
            " (SELECT number FROM fingerprints WHERE fingerprint = %s)"
            " AND row > %s AND row <= %s ORDER BY row",
            (fingerprint, after.row, position.row),
        )
        goes_back = position.row < after.row or position.removal < after.removal
        is_whole = len(removed) == position.removal - after.removal
        return Changes(
            position,
            _row_array(added),
            None if goes_back or not is_whole else _row_array(removed),
        )

    def claim(self, fingerprint: str) -> None:
        """Raises WrongFingerprint if another process has this store open for another model.

        Others find this process's model until it ends or closes the store.
        """
        values = (self._schema, fingerprint)
        with postgres_errors():
            # Of a session: gone with the process, however it ends.
            self._claim.execute(
                "SELECT pg_advisory_lock_shared(hashtext('precis ' || %s), hashtext(%s))",
                values,
            )
            # Taken before it is looked at: of two that start at a time, one sees the other.
            other = self._claim.execute(
                "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2"
                " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
                " AND classid = hashtext('precis ' || %s)::oid AND objid <> hashtext(%s)::oid",
                values,
            ).fetchone()
        if other is not None:
            raise WrongFingerprint(
                "another process has this library open with another model; stop it, or start this"
                " one with the same model and adapters"
            )

    def delete(self, ids: Sequence[str]) -> list[int | None]:
        """See TokenStore."""
        with self._connections.transaction() as writer:
            last_row, last_removal = _lock(writer)
            change = _Change()
            rows = _delete(writer, list(dict.fromkeys(ids)), change)
            _note_removals(writer, last_removal, list(rows.values()))
            _apply(writer, change, last_row, last_removal + len(rows))
        # `pop`: an id that occurs twice was there the first time only.
        return [rows.pop(id_, None) for id_ in ids]

    def scan(
        self, *, after_row: int = 0, limit: int | None = None
    ) -> Iterator[tuple[int, Record]]:
        """See TokenStore."""
        order = "WHERE row > %s ORDER BY row LIMIT %s"
        return self._blocks(order, after_row, limit)

    def scan_back(
        self, *, before_row: int | None = None
    ) -> Iterator[tuple[int, Record]]:
        """See TokenStore."""
        order = "WHERE row < %s ORDER BY row DESC LIMIT %s"
        first = _LAST_POSSIBLE_ROW if before_row is None else before_row
        return self._blocks(order, first, None)

    def _blocks(
        self, order: str, row_before: int, limit: int | None
    ) -> Iterator[tuple[int, Record]]:
        """The records in an order, which binds the row before the first, and a limit."""
        # Block by block: a transaction as long as the caller takes would keep the server from
        # giving the space of deleted rows back.
        query = f"SELECT row, id, record FROM images {order}"
        remaining = limit
        while remaining is None or remaining > 0:
            count = (
                _SCAN_RECORDS if remaining is None else min(remaining, _SCAN_RECORDS)
            )
            block = self._fetch(query, (row_before, count))
            for row, key, data in block:
                record, _ = decode_row(row, _id(key), data)
                yield row, record
            if len(block) < count:
                return
            row_before = block[-1][0]
            if remaining is not None:
                remaining -= count

    def sizes(self) -> StoreSizes:
        """See TokenStore."""
        (columns,) = self._fetch(
            "SELECT images, token_bytes, embedding_bytes, record_bytes, picture_bytes,"
            " (SELECT COALESCE(sum(pg_total_relation_size(oid)), 0) FROM pg_class"
            " WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r')"
            " FROM store"
        )
        return StoreSizes(*map(int, columns))

    def close(self, error: ClosedError = StoreClosed) -> None:
        """See TokenStore."""
        try:
            self._connections.close(error)
            self._claim.close()
        finally:
            self._lock.release()

    def file_names(self) -> list[str]:
        """The names of the files beside the records."""
        return [name for (name,) in self._fetch("SELECT name FROM files")]

    def file(self, name: str) -> bytes:
        """The bytes of a file beside the records, which must be there."""
        ((data,),) = self._fetch("SELECT data FROM files WHERE name = %s", (name,))
        return bytes(data)

    def keep_file(self, name: str, data: bytes) -> None:
        """Keeps a file beside the records, unless there is one of this name."""
        with self._connections.transaction() as writer:
            writer.execute(
                "INSERT INTO files (name, data) VALUES (%s, %b) ON CONFLICT DO NOTHING",
                (name, data),
            )

    def _fetch(self, query: str, values: Sequence[Any] = ()) -> list[TupleRow]:
        with (
            self._connections.transaction() as reader,
            # Binary: a text form of bytea has two digits a byte.
            reader.cursor(binary=True) as cursor,
        ):
            # The text holds no values, only the names of our columns.
            return cursor.execute(query, values).fetchall()


def _row_array(rows: Sequence[TupleRow]) -> Ints:
    return np.array(rows, dtype=np.int64).reshape(-1)


def _one(connection: Connection[TupleRow], query: str) -> TupleRow:
    row = connection.execute(query).fetchone()
    assert row is not None
    return row


def _lock(writer: Connection[TupleRow]) -> tuple[int, int]:
    """The last row assigned and the last number of a removal; until the commit nobody else writes.

    Whoever reads a last row therefore reads all rows up to it: none is committed later.
    """
    query = "SELECT last_row, last_removal FROM store FOR UPDATE"
    last_row, last_removal = _one(writer, query)
    return int(last_row), int(last_removal)


def _apply(
    writer: Connection[TupleRow], change: _Change, last_row: int, last_removal: int
) -> None:
    writer.execute(
        "UPDATE store SET last_row = %s, last_removal = %s, images = images + %s,"
        " token_bytes = token_bytes + %s, embedding_bytes = embedding_bytes + %s,"
        " record_bytes = record_bytes + %s, picture_bytes = picture_bytes + %s",
        (
            last_row,
            last_removal,
            change.images,
            change.token_bytes,
            change.embedding_bytes,
            change.record_bytes,
            change.picture_bytes,
        ),
    )


def _insert_images(
    writer: Connection[TupleRow],
    rows: Sequence[int],
    batch: Sequence[Record],
    encoded: Sequence[bytes],
    change: _Change,
) -> None:
    fingerprints = {record.fingerprint for record in batch}
    numbers = {
        fingerprint: _number(writer, fingerprint) for fingerprint in fingerprints
    }
    values = []
    for row, record, data in zip(rows, batch, encoded, strict=True):
        token_bytes = len(record.tokens)
        embedding_bytes = embedding_byte_count(record.embedding.size)
        change.images += 1
        change.count(1, token_bytes, embedding_bytes, len(data))
        number = numbers[record.fingerprint]
        key = _key(record.id)
        values.append((row, key, number, token_bytes, embedding_bytes, data))
    with writer.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO images (row, id, fingerprint, token_bytes, embedding_bytes, record)"
            " VALUES (%s, %s, %s, %s, %s, %b)",
            values,
        )


def _insert_pictures(
    writer: Connection[TupleRow],
    rows: Sequence[int],
    pictures: Sequence[bytes | None],
    change: _Change,
) -> None:
    values = [
        (row, picture)
        for row, picture in zip(rows, pictures, strict=True)
        if picture is not None
    ]
    change.picture_bytes += sum(len(picture) for _, picture in values)
    with writer.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO pictures (row, picture) VALUES (%s, %b)", values
        )


def _insert_terms(
    writer: Connection[TupleRow], rows: Sequence[int], records: Sequence[Record]
) -> None:
    values = []
    for row, record in zip(rows, records, strict=True):
        for name, value in metadata_terms(record.metadata):
            values.append((name.encode(), *columns_of(value), row))
    with writer.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO terms (name, text, number, row) VALUES (%s, %s, %s, %s)",
            values,
        )


def _number(writer: Connection[TupleRow], fingerprint: str) -> int:
    """The short number of a fingerprint, assigned at first use."""
    values = (fingerprint,)
    writer.execute(
        "INSERT INTO fingerprints (fingerprint) VALUES (%s) ON CONFLICT DO NOTHING",
        values,
    )
    query = "SELECT number FROM fingerprints WHERE fingerprint = %s"
    row = writer.execute(query, values).fetchone()
    assert row is not None
    return int(row[0])


def _update(
    writer: Connection[TupleRow], row: int, record: Record, change: _Change
) -> bool:
    query = "SELECT row, id, record FROM images WHERE row = %s"
    columns = writer.execute(query, (row,)).fetchone()
    if columns is None:
        return False
    _, key, stored = columns
    old, has_picture = decode_row(row, _id(key), stored)
    check_update(old, record)
    data = encode_record(record, has_picture=has_picture)
    embedding_bytes = embedding_byte_count(record.embedding.size)
    query = (
        "SELECT token_bytes, embedding_bytes, length(record) FROM images WHERE row = %s"
    )
    sizes = writer.execute(query, (row,)).fetchone()
    assert sizes is not None
    change.count(-1, *sizes)
    change.count(1, len(record.tokens), embedding_bytes, len(data))
    writer.execute(
        "UPDATE images SET token_bytes = %s, embedding_bytes = %s, record = %s WHERE row = %s",
        (len(record.tokens), embedding_bytes, data, row),
    )
    writer.execute("DELETE FROM terms WHERE row = %s", (row,))
    _insert_terms(writer, [row], [record])
    return True


def _delete(
    writer: Connection[TupleRow], ids: Sequence[str], change: _Change
) -> dict[str, int]:
    """Deletes within a transaction; the row of each id that was present."""
    keys = [_key(id_) for id_ in ids]
    # Before the records, whose deletion takes pictures and terms along.
    pictures = writer.execute(
        "SELECT COALESCE(sum(length(picture)), 0)::bigint FROM pictures JOIN images USING (row)"
        " WHERE id = ANY(%s)",
        (keys,),
    ).fetchone()
    assert pictures is not None
    change.picture_bytes -= pictures[0]
    deleted = writer.execute(
        "DELETE FROM images WHERE id = ANY(%s)"
        " RETURNING id, row, token_bytes, embedding_bytes, length(record)",
        (keys,),
    ).fetchall()
    rows: dict[str, int] = {}
    for key, row, token_bytes, embedding_bytes, all_bytes in deleted:
        change.images -= 1
        change.count(-1, token_bytes, embedding_bytes, all_bytes)
        rows[_id(key)] = row
    return rows


def _note_removals(
    writer: Connection[TupleRow], last_removal: int, rows: Sequence[int]
) -> None:
    if not rows:
        return
    numbered = list(enumerate(rows, start=last_removal + 1))
    with writer.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO removals (number, row) VALUES (%s, %s)", numbered
        )
    oldest_kept = last_removal + len(rows) - _KEPT_REMOVALS
    writer.execute("DELETE FROM removals WHERE number <= %s", (oldest_kept,))


def _matching(where: Filter | None, id_prefix: str) -> tuple[str, list[Any]]:
    text, values = _FILTERS.matching_rows(where)
    if id_prefix:
        # A range, which the index of the ids answers; no byte of UTF-8 is as great as 0xFF.
        text += " AND row IN (SELECT row FROM images WHERE id >= ? AND id < ?)"
        key = _key(id_prefix)
        values += [key, key + b"\xff"]
    return _bound(text), values


def _bound(text: str) -> str:
    """The text with psycopg's marks of bound values."""
    return text.replace("?", "%s")


def _key(id_: str) -> bytes:
    # An id that someone asks for may be any text.
    return id_.encode(errors="surrogatepass")


def _id(key: bytes) -> str:
    return key.decode(errors="surrogatepass")
