"""Token store in memory, for tests and throw-away libraries."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from index.errors import StoreClosed
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
from index.store.record_format import (
    check_update,
    decode_picture,
    decode_record,
    embedding_byte_count,
    encode_batch,
    encode_picture,
    encode_record,
)


class MemoryStore:
    """See TokenStore.

    Keeps encoded bytes: a record read from memory is rounded and checked as one from a disk is.
    """

    def __init__(self) -> None:
        self._store_id = secrets.token_hex(8)
        self._lock = threading.Lock()
        # By row. A dict keeps the order of insertion and rows only grow, so it is in row order.
        self._records: dict[int, bytes] = {}
        self._pictures: dict[int, bytes] = {}
        self._row_of: dict[str, int] = {}
        self._last_row = 0
        self._removed_rows: list[int] = []
        self._closed_error: ClosedError | None = None

    @property
    def store_id(self) -> str:
        """See TokenStore."""
        return self._store_id

    def put(self, batch: Sequence[Record]) -> list[int]:
        """See TokenStore."""
        # All encoding before the first change: what cannot be encoded must change nothing.
        encoded = encode_batch(batch)
        pictures = [
            encode_picture(record.id, record.picture) if record.picture else None
            for record in batch
        ]
        with self._lock:
            self._check_open()
            rows = []
            for record, data, picture in zip(batch, encoded, pictures, strict=True):
                self._delete(record.id)
                self._last_row += 1
                row = self._last_row
                rows.append(row)
                self._row_of[record.id] = row
                self._records[row] = data
                if picture is not None:
                    self._pictures[row] = picture
            return rows

    def get_many(
        self, ids: Sequence[str], *, with_picture: bool = False
    ) -> list[tuple[int, Record] | None]:
        """See TokenStore."""
        with self._lock:
            self._check_open()
            return [self._read(id_, with_picture) for id_ in ids]

    def get_rows(self, rows: Sequence[int]) -> list[Record | None]:
        """See TokenStore."""
        with self._lock:
            self._check_open()
            encoded = [self._records.get(int(row)) for row in rows]
        records: list[Record | None] = []
        for data in encoded:
            records.append(None if data is None else decode_record(data)[0])
        return records

    def rows(
        self,
        fingerprint: str | None,
        where: Filter | None = None,
        *,
        id_prefix: str = "",
    ) -> Ints:
        """See TokenStore."""
        rows = []
        for row, record in self.scan():
            if fingerprint not in (None, record.fingerprint):
                continue
            if not record.id.startswith(id_prefix):
                continue
            if where is None or where.matches(metadata_terms(record.metadata)):
                rows.append(row)
        return np.array(rows, dtype=np.int64)

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
        rows = self.rows(fingerprint, where, id_prefix=id_prefix)
        matching = set(rows.tolist())
        places: list[TextAndRow] = []
        for row, record in self.scan():
            terms = metadata_terms(record.metadata)
            texts = [
                text for key, text in terms if key == name and isinstance(text, str)
            ]
            if row in matching and texts:
                places.append((max(texts), row))
        behind = [place for place in places if before is None or place < before]
        return sorted(behind, reverse=True)[:limit]

    def update(self, changed: Sequence[tuple[int, Record]]) -> list[bool]:
        """See TokenStore."""
        with self._lock:
            self._check_open()
            encoded: dict[int, bytes] = {}
            for row, record in changed:
                if row not in self._records:
                    continue
                old, has_picture = decode_record(self._records[row])
                check_update(old, record)
                encoded[row] = encode_record(record, has_picture=has_picture)
            # After the loop: an update that is refused leaves those before it undone too.
            self._records.update(encoded)
            return [row in self._records for row, _ in changed]

    def last_row(self) -> int:
        """See TokenStore."""
        with self._lock:
            self._check_open()
            return self._last_row

    def position(self) -> Position:
        """See ChangeFeed."""
        with self._lock:
            self._check_open()
            return Position(row=self._last_row, removal=len(self._removed_rows))

    def changes(self, fingerprint: str, after: Position) -> Changes:
        """See ChangeFeed."""
        position = self.position()
        rows = self.rows(fingerprint)
        added = rows[(rows > after.row) & (rows <= position.row)]
        removed = self._removed_rows[after.removal : position.removal]
        return Changes(position, added, np.array(removed, dtype=np.int64))

    def delete(self, ids: Sequence[str]) -> list[int | None]:
        """See TokenStore."""
        with self._lock:
            self._check_open()
            return [self._delete(id_) for id_ in ids]

    def scan(
        self, *, after_row: int = 0, limit: int | None = None
    ) -> Iterator[tuple[int, Record]]:
        """See TokenStore."""
        with self._lock:
            self._check_open()
            # A copy: the caller may put and delete between two records.
            rows = [row for row in self._records if row > after_row][:limit]
            encoded = [self._records[row] for row in rows]
        for row, data in zip(rows, encoded, strict=True):
            record, _ = decode_record(data)
            yield row, record

    def scan_back(
        self, *, before_row: int | None = None
    ) -> Iterator[tuple[int, Record]]:
        """See TokenStore."""
        with self._lock:
            self._check_open()
            first = self._last_row + 1 if before_row is None else before_row
            rows = [row for row in reversed(self._records) if row < first]
            encoded = [self._records[row] for row in rows]
        for row, data in zip(rows, encoded, strict=True):
            record, _ = decode_record(data)
            yield row, record

    def sizes(self) -> StoreSizes:
        """See TokenStore."""
        token_bytes = 0
        embedding_bytes = 0
        with self._lock:
            self._check_open()
            for data in self._records.values():
                record, _ = decode_record(data)
                token_bytes += len(record.tokens)
                embedding_bytes += embedding_byte_count(record.embedding.size)
            all_bytes = sum(map(len, self._records.values()))
            picture_bytes = sum(map(len, self._pictures.values()))
            images = len(self._records)
        record_bytes = all_bytes - token_bytes - embedding_bytes
        return StoreSizes(
            images,
            token_bytes,
            embedding_bytes,
            record_bytes,
            picture_bytes,
            file_bytes=0,
        )

    def close(self, error: ClosedError = StoreClosed) -> None:
        """See TokenStore."""
        with self._lock:
            if self._closed_error is None:
                self._closed_error = error

    def _check_open(self) -> None:
        if self._closed_error is not None:
            raise self._closed_error()

    def _read(self, id_: str, with_picture: bool) -> tuple[int, Record] | None:
        row = self._row_of.get(id_)
        if row is None:
            return None
        record, has_picture = decode_record(self._records[row])
        if with_picture and has_picture:
            record = replace(record, picture=decode_picture(id_, self._pictures[row]))
        return row, record

    def _delete(self, id_: str) -> int | None:
        row = self._row_of.pop(id_, None)
        if row is not None:
            del self._records[row]
            self._removed_rows.append(row)
            self._pictures.pop(row, None)
        return row
