"""Reads the records of a store and passes over the damaged ones, which it tells to the log.

Knows nothing of what the records are for.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from index.errors import RecordDamaged
from index.ports import Record, TokenStore

log = logging.getLogger(__name__)


class WholeRecords:
    """One damaged record must not keep a search, a listing or a restart from the others."""

    def __init__(self, store: TokenStore) -> None:
        self._store = store

    def by_row(self, rows: NDArray[np.int64]) -> dict[int, Record]:
        """The records of rows, without the deleted and the damaged."""
        numbers = rows.tolist()
        try:
            found = self._store.get_rows(numbers)
        except RecordDamaged:
            found = [self._record_or_none(row) for row in numbers]
        return {row: record for row, record in zip(numbers, found, strict=True) if record is not None}

    def _record_or_none(self, row: int) -> Record | None:
        try:
            return self._store.get_rows([row])[0]
        except RecordDamaged as error:
            log.warning("%s; run a check of the library", error)
            return None

    def by_id(self, ids: Sequence[str]) -> Sequence[tuple[int, Record | None] | None]:
        """(row, record) of each id; the record is None when it is damaged."""
        try:
            return self._store.get_many(ids)
        except RecordDamaged:
            return [self._whole_or_none(id_) for id_ in ids]

    def _whole_or_none(self, id_: str) -> tuple[int, Record | None] | None:
        try:
            return self._store.get_many([id_])[0]
        except RecordDamaged as error:
            log.warning("%s; run a check of the library", error)
            return None if error.row is None else (error.row, None)

    def scan(self, after_row: int) -> Iterator[tuple[int, Record]]:
        """Scans on behind damaged records."""
        while True:
            try:
                yield from self._store.scan(after_row=after_row)
            except RecordDamaged as error:
                log.warning("%s; run a check of the library", error)
                if error.row is None:
                    raise
                after_row = error.row
            else:
                return
