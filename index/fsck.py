"""Checks a data folder from end to end, and repairs what can be repaired without losing a byte that
could be of use.

Knows nothing of models. Nobody else may have the library open meanwhile.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from index.codecs.registry import CodecRegistry
from index.errors import CodecError, IndexDamaged, RecordDamaged, StoreDamaged, StoreError
from index.files import write_whole
from index.filters import metadata_terms
from index.model_info import FOLDER as MAKERS_FOLDER
from index.model_info import read_model_info
from index.ports import Record
from index.store.record_format import (
    decode_picture,
    decode_record,
    embedding_byte_count,
    set_picture_flag,
    version_of,
)
from index.store.sqlite import SqliteStore, sqlite_errors
from index.vectors.snapshot import verify_snapshot

DAMAGED_FOLDER = "damaged"
_BLOCK_ROWS = 256


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong."""

    # "file", "record", "picture", "columns", "terms", "totals", "codec", "maker" or "snapshot"
    part: str
    what: str
    id: str | None = None  # of the image, where it is one image's
    repaired: bool = False


@dataclass(frozen=True)
class Report:
    """What a check found."""

    images: int  # looked at, damaged ones too
    findings: list[Finding]

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong, or no longer."""
        return all(finding.repaired for finding in self.findings)


def check_folder(folder: Path, *, repair: bool = False) -> Report:
    """Checks every byte of the library in `folder`; with `repair`, mends what it finds.

    Damaged records and pictures are moved to files in `damaged/` and no longer in the way; what is
    derived (terms, totals, snapshots) is made anew. A damaged SQLite file or a missing codec state
    cannot be repaired: restore a backup. Raises StoreBusy and other StoreErrors.
    """
    if not folder.is_dir():
        raise StoreError("there is no library in this folder")
    store = SqliteStore(folder)
    try:
        with sqlite_errors():
            connection = store.connect()
            try:
                return _Check(folder, connection, repair).run()
            finally:
                connection.close()
    finally:
        store.close()


class _Check:
    def __init__(self, folder: Path, connection: sqlite3.Connection, repair: bool) -> None:
        self._folder = folder
        self._connection = connection
        self._repair = repair
        self._findings: list[Finding] = []
        self._unreadable: set[int] = set()  # rows whose terms cannot be known

    def run(self) -> Report:
        self._check_file()
        fingerprints = dict(
            self._connection.execute("SELECT number, fingerprint FROM fingerprints").fetchall()
        )
        images, codecs = 0, set[str]()
        expected_terms = _OrderlessHash()
        for row, id_, number, token_bytes, embedding_bytes, data in self._images():
            images += 1
            record = self._check_record(row, id_, data)
            if record is None:
                continue
            codecs.add(record.codec)
            for name, value in metadata_terms(record.metadata):
                expected_terms.add(name, value, row)
            embedding_bytes_due = embedding_byte_count(record.embedding.size, version_of(data))
            columns = (fingerprints.get(number), token_bytes, embedding_bytes)
            if columns != (record.fingerprint, len(record.tokens), embedding_bytes_due):
                self._mend_columns(row, record, embedding_bytes_due)
        self._check_orphans()
        self._check_terms(expected_terms)
        self._check_totals()
        self._check_codecs(codecs)
        self._check_makers()
        self._check_snapshots()
        return Report(images, self._findings)

    def _found(
        self, part: str, what: str, id_: str | None = None, *, repaired: bool = False
    ) -> None:
        self._findings.append(Finding(part, what, id_, repaired))

    def _write(self, *statements: tuple[str, tuple[object, ...]]) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            for statement, values in statements:
                self._connection.execute(statement, values)
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def _check_file(self) -> None:
        problems = [
            text for (text,) in self._connection.execute("PRAGMA integrity_check") if text != "ok"
        ]
        if problems and self._repair:
            self._connection.execute(
                "REINDEX"
            )  # all that can be mended: indexes are derived from the tables
            left = [
                text
                for (text,) in self._connection.execute("PRAGMA integrity_check")
                if text != "ok"
            ]
        else:
            left = problems
        for problem in problems:
            self._found("file", problem, repaired=self._repair and not left)

    def _images(self) -> Iterator[tuple[int, str, int, int, int, bytes]]:
        query = (
            "SELECT row, id, fingerprint, token_bytes, embedding_bytes, COALESCE(CAST(record AS BLOB), X'') FROM images"
            " WHERE row > ? ORDER BY row LIMIT ?"
        )
        after = 0
        while found := self._connection.execute(query, (after, _BLOCK_ROWS)).fetchall():
            yield from found
            after = found[-1][0]

    def _check_record(self, row: int, id_: str, data: bytes) -> Record | None:
        """The record, or None if it is damaged."""
        try:
            record, has_picture = decode_record(data)
        except RecordDamaged as error:
            self._remove_record(row, id_, data, str(error))
            return None
        if record.id != id_:
            self._remove_record(row, id_, data, f"the record of {record.id} stands in its place")
            return None
        self._check_picture(row, id_, data, has_picture)
        return record

    def _remove_record(self, row: int, id_: str, data: bytes, what: str) -> None:
        self._unreadable.add(row)
        if self._repair:
            self._keep(f"record-{row}.bin", data)
            picture = self._connection.execute(
                "SELECT picture FROM pictures WHERE row = ?", (row,)
            ).fetchone()
            if picture is not None:
                self._keep(f"picture-{row}.bin", picture[0])
            self._write(
                ("DELETE FROM images WHERE row = ?", (row,)),
                ("DELETE FROM pictures WHERE row = ?", (row,)),
                ("DELETE FROM terms WHERE row = ?", (row,)),
            )
        self._found("record", what, id_, repaired=self._repair)

    def _check_picture(self, row: int, id_: str, data: bytes, has_picture: bool) -> None:
        found = self._connection.execute(
            "SELECT CAST(picture AS BLOB) FROM pictures WHERE row = ?", (row,)
        ).fetchone()
        if found is None and not has_picture:
            return
        what = "the picture of the record is missing"
        if found is not None:
            try:
                decode_picture(id_, found[0])
            except RecordDamaged as error:
                what = str(error)
            else:
                if has_picture:
                    return
                what = "there is a picture the record does not know of"
        if self._repair:
            if found is not None:
                self._keep(f"picture-{row}.bin", found[0])
            self._write(
                (
                    "UPDATE images SET record = ? WHERE row = ?",
                    (set_picture_flag(data, False), row),
                ),
                ("DELETE FROM pictures WHERE row = ?", (row,)),
            )
        self._found("picture", what, id_, repaired=self._repair)

    def _mend_columns(self, row: int, record: Record, embedding_bytes: int) -> None:
        if self._repair:
            self._write(
                (
                    "INSERT OR IGNORE INTO fingerprints (fingerprint) VALUES (?)",
                    (record.fingerprint,),
                ),
                (
                    "UPDATE images SET token_bytes = ?, embedding_bytes = ?, fingerprint ="
                    " (SELECT number FROM fingerprints WHERE fingerprint = ?) WHERE row = ?",
                    (len(record.tokens), embedding_bytes, record.fingerprint, row),
                ),
            )
        self._found(
            "columns",
            "columns beside the record do not agree with it",
            record.id,
            repaired=self._repair,
        )

    def _check_orphans(self) -> None:
        query = "SELECT row, picture FROM pictures WHERE row NOT IN (SELECT row FROM images)"
        for row, picture in self._connection.execute(query).fetchall():
            if self._repair:
                self._keep(f"picture-{row}.bin", picture)
                self._write(("DELETE FROM pictures WHERE row = ?", (row,)))
            self._found("picture", f"a picture without a record (row {row})", repaired=self._repair)

    def _check_terms(self, expected: _OrderlessHash) -> None:
        held = _OrderlessHash()
        for name, value, row in self._connection.execute("SELECT name, value, row FROM terms"):
            if row not in self._unreadable:
                held.add(name, value, row)
        if held.total == expected.total:
            return
        if self._repair:
            self._rebuild_terms()
        self._found(
            "terms", "the terms for filters do not agree with the records", repaired=self._repair
        )

    def _rebuild_terms(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            self._connection.execute("DELETE FROM terms")
            for row, _, _, _, _, data in self._images():
                terms = [(*term, row) for term in metadata_terms(decode_record(data)[0].metadata)]
                self._connection.executemany(
                    "INSERT INTO terms (name, value, row) VALUES (?, ?, ?)", terms
                )
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def _check_totals(self) -> None:
        columns = "images, token_bytes, embedding_bytes, record_bytes, picture_bytes"
        held = self._connection.execute(f"SELECT {columns} FROM store").fetchone()
        right = self._connection.execute(
            "SELECT COUNT(*), COALESCE(SUM(token_bytes), 0), COALESCE(SUM(embedding_bytes), 0),"
            " COALESCE(SUM(length(record) - token_bytes - embedding_bytes), 0),"
            " (SELECT COALESCE(SUM(length(picture)), 0) FROM pictures) FROM images"
        ).fetchone()
        if held == right:
            return
        if self._repair:
            self._write((f"UPDATE store SET ({columns}) = (?, ?, ?, ?, ?)", right))
        self._found("totals", "the totals do not agree with the records", repaired=self._repair)

    def _check_codecs(self, names: set[str]) -> None:
        shelf = CodecRegistry(self._folder / "codecs")
        for name in sorted(names):
            try:
                shelf.by_name(name)
            except CodecError as error:
                self._found("codec", str(error))

    def _check_makers(self) -> None:
        for path in sorted((self._folder / MAKERS_FOLDER).glob("*.json")):
            try:
                read_model_info(path)
            except StoreDamaged as error:
                if self._repair:
                    self._keep(path.name, path.read_bytes())
                    path.unlink()  # made again when a library is opened with that model
                self._found("maker", str(error), repaired=self._repair)

    def _check_snapshots(self) -> None:
        for path in sorted(self._folder.glob("vectors-*.snapshot")):
            try:
                verify_snapshot(path)
            except IndexDamaged as error:
                if self._repair:
                    path.unlink()
                self._found("snapshot", str(error), repaired=self._repair)

    def _keep(self, name: str, data: object) -> None:
        """Writes damaged bytes aside, once: a second damage of the same row does not overwrite the first."""
        folder = self._folder / DAMAGED_FOLDER
        folder.mkdir(exist_ok=True)
        raw = data if isinstance(data, bytes) else str(data).encode(errors="replace")
        stem, number = Path(name), 0
        while (folder / name).exists():
            number += 1
            name = f"{stem.stem}-{number}{stem.suffix}"
        try:
            write_whole(folder / name, lambda take: take(raw))
        except OSError as error:
            raise StoreError(f"damaged bytes cannot be put aside: {error.strerror}") from error


class _OrderlessHash:
    """A sum of hashes: the same for the same items in any order, in constant memory."""

    def __init__(self) -> None:
        self.total = 0

    def add(self, name: str, value: object, row: int) -> None:
        if isinstance(value, float):
            value += 0.0  # SQLite keeps no sign of zero
        text = repr((name, value, row)).encode(errors="surrogatepass")
        self.total = (
            self.total + int.from_bytes(hashlib.blake2b(text, digest_size=16).digest())
        ) % 2**128
