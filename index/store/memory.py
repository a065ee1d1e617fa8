"""Token store in memory: for tests and throw-away libraries; nothing outlives the process.

Knows nothing of files.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from index.errors import StoreClosed
from index.filters import Filter, metadata_terms
from index.ports import Record, StoreSizes
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
    """See TokenStore. Keeps encoded bytes, so that what comes back is what a disk would give back."""

    def __init__(self) -> None:
        self._store_id = secrets.token_hex(8)
        self._lock = threading.Lock()
        self._records: dict[int, bytes] = {}  # by row, ascending: rows are only ever appended
        self._pictures: dict[int, bytes] = {}
        self._row_of: dict[str, int] = {}
        self._last_row = 0
        self._closed = False

    @property
    def store_id(self) -> str:
        """See TokenStore."""
        return self._store_id

    def put(self, batch: Sequence[Record]) -> list[int]:
        """See TokenStore."""
        records = encode_batch(batch)
        pictures = [encode_picture(r.id, r.picture) if r.picture else None for r in batch]
        with self._lock:
            self._check_open()
            rows = []
            for record, data, picture in zip(batch, records, pictures, strict=True):
                self._drop(record.id)
                self._last_row += 1
                rows.append(self._last_row)
                self._row_of[record.id] = self._last_row
                self._records[self._last_row] = data
                if picture is not None:
                    self._pictures[self._last_row] = picture
            return rows

    def get_many(
        self, ids: Sequence[str], *, with_picture: bool = False
    ) -> list[tuple[int, Record] | None]:
        """See TokenStore."""
        with self._lock:
            self._check_open()
            rows = [self._row_of.get(id_) for id_ in ids]
            found = [
                None if row is None else (row, self._records[row], self._pictures.get(row))
                for row in rows
            ]
        return [
            None if item is None else (item[0], _decoded(item[1], item[2], with_picture))
            for item in found
        ]

    def get_rows(self, rows: Sequence[int]) -> list[Record | None]:
        """See TokenStore."""
        with self._lock:
            self._check_open()
            found = [self._records.get(int(row)) for row in rows]
        return [None if data is None else decode_record(data)[0] for data in found]

    def rows(self, fingerprint: str, where: Filter | None = None) -> NDArray[np.int64]:
        """See TokenStore."""
        of_model = [
            (row, record) for row, record in self.scan() if record.fingerprint == fingerprint
        ]
        found = [
            row
            for row, record in of_model
            if where is None or where.holds(metadata_terms(record.metadata))
        ]
        return np.array(found, dtype=np.int64)

    def update(self, changed: Sequence[tuple[int, Record]]) -> list[bool]:
        """See TokenStore."""
        with self._lock:
            self._check_open()
            encoded: dict[int, bytes] = {}
            for row, record in changed:
                if row in self._records:
                    check_update(decode_record(self._records[row])[0], record)
                    encoded[row] = encode_record(record, has_picture=row in self._pictures)
            self._records.update(encoded)
            return [row in self._records for row, _ in changed]

    def last_row(self) -> int:
        """See TokenStore."""
        with self._lock:
            self._check_open()
            return self._last_row

    def delete(self, ids: Sequence[str]) -> list[int | None]:
        """See TokenStore."""
        with self._lock:
            self._check_open()
            return [self._drop(id_) for id_ in ids]

    def scan(self, *, after_row: int = 0, limit: int | None = None) -> Iterator[tuple[int, Record]]:
        """See TokenStore."""
        with self._lock:
            self._check_open()
            found = [item for item in self._records.items() if item[0] > after_row][:limit]
        for row, data in found:
            yield row, decode_record(data)[0]

    def sizes(self) -> StoreSizes:
        """See TokenStore."""
        records = [record for _, record in self.scan()]
        tokens = sum(len(record.tokens) for record in records)
        embeddings = sum(embedding_byte_count(record.embedding.size) for record in records)
        with self._lock:
            whole, pictures = (
                sum(map(len, self._records.values())),
                sum(map(len, self._pictures.values())),
            )
        return StoreSizes(
            len(records), tokens, embeddings, whole - tokens - embeddings, pictures, file_bytes=0
        )

    def close(self) -> None:
        """See TokenStore."""
        with self._lock:
            self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise StoreClosed("the store is closed")

    def _drop(self, id_: str) -> int | None:
        row = self._row_of.pop(id_, None)
        if row is not None:
            del self._records[row]
            self._pictures.pop(row, None)
        return row


def _decoded(data: bytes, picture: bytes | None, with_picture: bool) -> Record:
    record, _ = decode_record(data)
    if with_picture and picture is not None:
        record = replace(record, picture=decode_picture(record.id, picture))
    return record
