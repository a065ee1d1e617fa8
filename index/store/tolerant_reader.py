"""Reads a token store past damaged records, which it logs."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from index.errors import RecordDamaged
from index.ports import Ints, Record, TokenStore

log = logging.getLogger(__name__)


class TolerantReader:
    """One damaged record must not keep a search, a page or a restart from all others.

    Batches are read in one query; only a batch with damage in it is read again one by one.
    """

    def __init__(self, store: TokenStore) -> None:
        self._store = store

    def by_row(self, rows: Ints) -> dict[int, Record]:
        """The records of rows, without those deleted or damaged."""
        numbers: list[int] = rows.tolist()
        try:
            records = self._store.get_rows(numbers)
        except RecordDamaged:
            records = [self._record_or_none(row) for row in numbers]
        present = {}
        for row, record in zip(numbers, records, strict=True):
            if record is not None:
                present[row] = record
        return present

    def _record_or_none(self, row: int) -> Record | None:
        try:
            return self._store.get_rows([row])[0]
        except RecordDamaged as error:
            _log(error)
            return None

    def by_id(self, ids: Sequence[str]) -> Sequence[tuple[int, Record | None] | None]:
        """(row, record) of each id, or None; the record alone is None if it is damaged."""
        # With the row even of a damaged record, since a new record of that image replaces it.
        try:
            return self._store.get_many(ids)
        except RecordDamaged:
            return [self._row_and_record(id_) for id_ in ids]

    def _row_and_record(self, id_: str) -> tuple[int, Record | None] | None:
        try:
            return self._store.get_many([id_])[0]
        except RecordDamaged as error:
            _log(error)
            return None if error.row is None else (error.row, None)

    def scan(
        self, row_before: int | None, *, newest_first: bool = False
    ) -> Iterator[tuple[int, Record]]:
        """`TokenStore.scan` or `scan_back`, resumed behind each damaged record.

        Starts behind `row_before` in that order, or at the first row.
        """
        while True:
            try:
                if newest_first:
                    yield from self._store.scan_back(before_row=row_before)
                else:
                    yield from self._store.scan(after_row=row_before or 0)
            except RecordDamaged as error:
                _log(error)
                # Without its row there is no place to resume, and a new scan would not end.
                if error.row is None:
                    raise
                row_before = error.row
            else:
                return


def _log(error: RecordDamaged) -> None:
    log.warning("%s; run a check of the library", error)
