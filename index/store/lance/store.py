"""Token store in a Lance dataset; docs/storage.md describes its lines.

Any number of processes read and write: each commit replaces the head, so that one of two commits
at a time begins anew. A call returns after its commit.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from index.concurrency import lock_folder
from index.errors import RecordDamaged, StoreClosed
from index.files import store_errors
from index.filters import Filter, Term
from index.ports import (
    Changes,
    ClosedError,
    Ints,
    Position,
    Record,
    StoreSizes,
    TextAndRow,
)
from index.store.lance.dataset import Change, Dataset, Line, Snapshot, quoted
from index.store.lance.lines import (
    FILE,
    IMAGE,
    IMAGE_COLUMNS,
    REMOVAL,
    REMOVAL_COLUMNS,
    decode_line,
    image_keys,
    image_line,
    removal_of,
    sizes_of,
    updated_line,
)
from index.store.record_format import decode_picture, encode_batch
from index.store.sqlite import LOCK_NAME

_SCAN_ROWS = 256  # numbers of rows per query of a scan; more where rows are gone
_MAX_SCAN_ROWS = 2**20


class LanceStore:
    """See TokenStore and ChangeFeed. Several processes may have it open."""

    def __init__(self, uri: str, folder: Path) -> None:
        """Opens or creates the store at a URI of an object store or a path.

        `folder` is this process's own, for what it derives from the store. Raises StoreUnreachable,
        StoreAccessDenied, StoreTooNew, StoreDamaged, StoreBusy if another process has the folder.
        """
        with store_errors("the data folder cannot be created"):
            folder.mkdir(parents=True, exist_ok=True)
        self._closed_error: ClosedError | None = None
        self._lock = lock_folder(folder / LOCK_NAME)
        try:
            self._dataset = Dataset(uri)
            self._store_id = self._dataset.latest().head.store_id
        except BaseException:
            self._lock.release()
            raise

    @property
    def store_id(self) -> str:
        """See TokenStore."""
        return self._store_id

    def _latest(self) -> Snapshot:
        self._check_open()
        return self._dataset.latest()

    def _check_open(self) -> None:
        if self._closed_error is not None:
            raise self._closed_error()

    def put(self, batch: Sequence[Record]) -> list[int]:
        """See TokenStore."""
        self._check_open()
        lines = [
            image_line(record, data)
            for record, data in zip(batch, encode_batch(batch), strict=True)
        ]
        if not batch:
            return []

        def plan(snapshot: Snapshot) -> tuple[Change, list[int]]:
            head = snapshot.head
            written: list[Line] = []
            for old in snapshot.find(
                [line["id"] for line in lines], REMOVAL_COLUMNS
            ).values():
                head, removal = removal_of(head, old)
                written.append({**removal, "id": f"{REMOVAL}{removal['removal']}"})
            rows = []
            for line in lines:
                head = replace(head.plus(1, sizes_of(line)), last_row=head.last_row + 1)
                rows.append(head.last_row)
                written.append({**line, "row": head.last_row})
            return Change(head, written), rows

        return self._dataset.change(plan)

    def update(self, changed: Sequence[tuple[int, Record]]) -> list[bool]:
        """See TokenStore."""
        self._check_open()
        numbers = [int(row) for row, _ in changed]

        def plan(snapshot: Snapshot) -> tuple[Change | None, list[bool]]:
            head = snapshot.head
            lines = snapshot.find_rows(numbers, IMAGE_COLUMNS)
            for row, record in zip(numbers, (each for _, each in changed), strict=True):
                if row not in lines:
                    continue
                old = lines[row]
                new = updated_line(old, record)
                head = head.plus(-1, sizes_of(old)).plus(1, sizes_of(new))
                lines[row] = new
            present = [row in lines for row in numbers]
            return Change(head, list(lines.values())) if lines else None, present

        return self._dataset.change(plan)

    def delete(self, ids: Sequence[str]) -> list[int | None]:
        """See TokenStore."""
        self._check_open()
        keys = image_keys(ids)

        def plan(snapshot: Snapshot) -> tuple[Change | None, dict[str, int]]:
            head = snapshot.head
            removals: list[Line] = []
            rows: dict[str, int] = {}
            for key, old in snapshot.find(keys, REMOVAL_COLUMNS).items():
                if old["row"] is not None:
                    head, removal = removal_of(head, old)
                    # In place of the image: nothing of it is left in the latest commit.
                    removals.append({**removal, "id": key})
                    rows[key] = old["row"]
            return Change(head, removals) if removals else None, rows

        rows = self._dataset.change(plan)
        # `pop`: an id that occurs twice was there the first time only.
        return [rows.pop(IMAGE + id_, None) for id_ in ids]

    def get_many(
        self, ids: Sequence[str], *, with_picture: bool = False
    ) -> list[tuple[int, Record] | None]:
        """See TokenStore."""
        columns = ["row", "data", "picture"] if with_picture else ["row", "data"]
        lines = self._latest().find(image_keys(ids), columns)
        records: dict[str, tuple[int, Record]] = {}
        for key, line in lines.items():
            if line["row"] is None:
                continue
            record, has_picture = decode_line(line)
            if with_picture and has_picture:
                if line["picture"] is None:
                    raise RecordDamaged(
                        "the picture of a record is missing",
                        row=line["row"],
                        id=record.id,
                    )
                decoded = decode_picture(record.id, line["picture"])
                record = replace(record, picture=decoded)
            records[key] = (line["row"], record)
        return [records.get(IMAGE + id_) for id_ in ids]

    def get_rows(self, rows: Sequence[int]) -> list[Record | None]:
        """See TokenStore."""
        numbers = [int(row) for row in rows]
        lines = self._latest().find_rows(numbers, ["id", "data"])
        records = {row: decode_line(line)[0] for row, line in lines.items()}
        return [records.get(row) for row in numbers]

    def rows(
        self,
        fingerprint: str | None,
        where: Filter | None = None,
        *,
        id_prefix: str = "",
    ) -> Ints:
        """See TokenStore."""
        snapshot = self._latest()
        images = _images(fingerprint, id_prefix)
        if where is None:
            return np.sort(_rows_of(snapshot, images))
        lines = _with_terms(snapshot, images)
        rows = [row for row, terms in lines if where.matches(terms)]
        return np.array(sorted(rows), dtype=np.int64)

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
        places: list[TextAndRow] = []
        images = _images(fingerprint, id_prefix)
        for row, terms in _with_terms(self._latest(), images):
            texts = [
                text for key, text in terms if key == name and isinstance(text, str)
            ]
            if not texts or (where is not None and not where.matches(terms)):
                continue
            place = (max(texts), row)
            if before is None or place < before:
                places.append(place)
        return sorted(places, reverse=True)[:limit]

    def last_row(self) -> int:
        """See TokenStore."""
        return self._latest().head.last_row

    def position(self) -> Position:
        """See ChangeFeed."""
        return _position(self._latest())

    def changes(self, fingerprint: str, after: Position) -> Changes:
        """See ChangeFeed."""
        snapshot = self._latest()
        position = _position(snapshot)
        removed = snapshot.column(
            f"removal > {after.removal} AND removal <= {position.removal}",
            "removed_row",
        )
        added = _rows_of(
            snapshot,
            f"row > {after.row} AND row <= {position.row}"
            f" AND fingerprint = {quoted(fingerprint)}",
        )
        goes_back = position.row < after.row or position.removal < after.removal
        is_whole = len(removed) == position.removal - after.removal
        return Changes(
            position,
            np.sort(added),
            None if goes_back or not is_whole else removed.astype(np.int64),
        )

    def scan(
        self, *, after_row: int = 0, limit: int | None = None
    ) -> Iterator[tuple[int, Record]]:
        """See TokenStore."""
        remaining = limit
        width = _SCAN_ROWS
        while remaining is None or remaining > 0:
            snapshot = self._latest()
            if after_row >= snapshot.head.last_row:
                return
            end = after_row + width
            lines = _lines_between(snapshot, after_row + 1, end)
            for line in lines[:remaining]:
                yield line["row"], decode_line(line)[0]
            if remaining is not None:
                remaining -= len(lines)
            after_row = end
            width = _next_width(width, len(lines))

    def scan_back(
        self, *, before_row: int | None = None
    ) -> Iterator[tuple[int, Record]]:
        """See TokenStore."""
        width = _SCAN_ROWS
        last_row = self._latest().head.last_row
        end = last_row if before_row is None else min(before_row - 1, last_row)
        while end > 0:
            start = max(end - width + 1, 1)
            lines = _lines_between(self._latest(), start, end)
            for line in reversed(lines):
                yield line["row"], decode_line(line)[0]
            end = start - 1
            width = _next_width(width, len(lines))

    def sizes(self) -> StoreSizes:
        """See TokenStore."""
        snapshot = self._latest()
        head = snapshot.head
        return StoreSizes(
            images=head.images,
            token_bytes=head.token_bytes,
            embedding_bytes=head.embedding_bytes,
            record_bytes=head.record_bytes,
            picture_bytes=head.picture_bytes,
            file_bytes=snapshot.data_bytes(),
        )

    def close(self, error: ClosedError = StoreClosed) -> None:
        """See TokenStore."""
        if self._closed_error is None:
            self._closed_error = error
            self._lock.release()

    def file_names(self) -> list[str]:
        """The names of the files beside the records."""
        where = f"starts_with(id, {quoted(FILE)})"
        lines = self._latest().read(where, ["id"])
        return [line["id"].removeprefix(FILE) for line in lines]

    def file(self, name: str) -> bytes:
        """The bytes of a file beside the records, which must be there."""
        (line,) = self._latest().find([FILE + name], ["data"]).values()
        return bytes(line["data"])

    def keep_file(self, name: str, data: bytes) -> None:
        """Keeps a file beside the records, unless there is one of this name."""
        key = FILE + name

        def plan(snapshot: Snapshot) -> tuple[Change | None, None]:
            if snapshot.find([key], []):
                return None, None
            return Change(snapshot.head, [{"id": key, "data": data}]), None

        self._dataset.change(plan)


def _position(snapshot: Snapshot) -> Position:
    head = snapshot.head
    return Position(row=head.last_row, removal=head.last_removal)


def _rows_of(snapshot: Snapshot, where: str) -> Ints:
    rows: Any = snapshot.column(where, "row")
    return np.asarray(rows, dtype=np.int64)


def _images(fingerprint: str | None, id_prefix: str) -> str:
    """The condition that a line is an image of a model, or of any, whose id begins so."""
    where = "row IS NOT NULL"
    if fingerprint is not None:
        where = f"fingerprint = {quoted(fingerprint)}"
    if id_prefix:
        first = IMAGE + id_prefix
        last = first + chr(sys.maxunicode)
        where += f" AND id >= {quoted(first)} AND id < {quoted(last)}"
    return where


def _with_terms(snapshot: Snapshot, images: str) -> Iterator[tuple[int, list[Term]]]:
    """The row and the terms of every image for which a condition holds."""
    for line in snapshot.read(images, ["row", "terms"]):
        terms = [(name, value) for name, value in json.loads(line["terms"])]
        yield line["row"], terms


def _lines_between(snapshot: Snapshot, first: int, last: int) -> list[Line]:
    """The images from one row to another, in their order."""
    lines = snapshot.read(f"row >= {first} AND row <= {last}", ["id", "row", "data"])
    return sorted(lines, key=_row_of)


def _row_of(line: Line) -> int:
    row: int = line["row"]
    return row


def _next_width(width: int, found: int) -> int:
    """How many rows a scan asks for after it found few or many of them."""
    if found >= _SCAN_ROWS // 2:
        return _SCAN_ROWS
    return min(2 * width, _MAX_SCAN_ROWS)
