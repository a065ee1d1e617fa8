"""Checks a data folder from end to end and repairs what can be repaired.

A repair loses no byte that could be of use: what it removes, it first puts aside in `damaged/`. Its
libraries must not be open elsewhere meanwhile.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from index.codecs.registry import CodecRegistry
from index.data_folder import COLLECTIONS, check_library, collection_names
from index.errors import (
    CodecError,
    IndexDamaged,
    RecordDamaged,
    StoreDamaged,
)
from index.files import checksum, store_errors, write_bytes
from index.filters import metadata_terms
from index.model_info import FOLDER as MODEL_INFO_FOLDER
from index.model_info import read_model_info
from index.ports import Record
from index.store.connections import sqlite_errors
from index.store.record_format import (
    decode_picture,
    decode_record,
    embedding_byte_count,
    set_picture_flag,
    version_of,
)
from index.store.sqlite import FILE_NAME, LOCK_NAME, SqliteStore
from index.vectors.snapshot import verify_snapshot

DAMAGED_FOLDER = "damaged"
_BLOCK_ROWS = 256
_HASH_BYTES = 16
_INCREMENTAL = 2  # value of PRAGMA auto_vacuum
# The casts undo what damage to a row's header does to the type of a value.
_IMAGES_QUERY = (
    "SELECT row, id, fingerprint, token_bytes, embedding_bytes,"
    " COALESCE(CAST(record AS BLOB), X'') FROM images WHERE row > ? ORDER BY row LIMIT ?"
)
_PICTURE_QUERY = "SELECT CAST(picture AS BLOB) FROM pictures WHERE row = ?"
_TOTALS = "images, token_bytes, embedding_bytes, record_bytes, picture_bytes"


@dataclass(frozen=True)
class Finding:
    """One defect."""

    # "file", "record", "picture", "columns", "terms", "totals", "codec", "maker" or "snapshot"
    part: str
    what: str
    id: str | None = None  # of the image, if the defect is in one image
    repaired: bool = False
    collection: str | None = None  # None for the library without a name


@dataclass(frozen=True)
class Report:
    """The result of a check."""

    images: int  # checked, damaged ones included
    findings: list[Finding]

    @property
    def sound(self) -> bool:
        """Whether there is no defect that was not repaired."""
        return all(finding.repaired for finding in self.findings)


def check_folder(folder: Path, *, repair: bool = False) -> Report:
    """Checks every byte of all libraries in `folder`; with `repair`, repairs what it finds.

    A repair moves damaged records and pictures to files in `damaged/` and derives terms, totals and
    snapshots anew. It cannot repair a damaged SQLite file or a missing codec state: restore a
    backup. Raises StoreBusy and other StoreErrors.
    """
    check_library(folder)
    images = 0
    findings: list[Finding] = []
    # Opening the store takes the lock of the folder and brings the schema up to date.
    with contextlib.closing(SqliteStore(folder)) as store:
        for name in collection_names(folder):
            report = _check_collection(folder / COLLECTIONS / name, repair)
            images += report.images
            findings += [
                replace(finding, collection=name) for finding in report.findings
            ]
        report = _check_store(folder, store, repair)
    return Report(images + report.images, [*report.findings, *findings])


def _check_collection(folder: Path, repair: bool) -> Report:
    if not (folder / FILE_NAME).is_file():
        # A crash between the folder and its store leaves an empty folder, and nothing is lost.
        remains = {path.name for path in folder.iterdir()} - {LOCK_NAME}
        lost = Finding("file", "the store is missing")
        return Report(0, [lost] if remains else [])
    with contextlib.closing(SqliteStore(folder)) as store:
        return _check_store(folder, store, repair)


def _check_store(folder: Path, store: SqliteStore, repair: bool) -> Report:
    with sqlite_errors(), contextlib.closing(store.connect()) as connection:
        return _Check(folder, connection, repair).run()


class _Row(NamedTuple):
    """A row of the table `images`."""

    row: int
    id: str
    fingerprint_number: int
    token_bytes: int
    embedding_bytes: int
    data: bytes


class _Check:
    def __init__(
        self, folder: Path, connection: sqlite3.Connection, repair: bool
    ) -> None:
        self._folder = folder
        self._connection = connection
        self._repair = repair
        self._findings: list[Finding] = []
        self._damaged_rows: set[int] = set()  # whose terms cannot be known

    def run(self) -> Report:
        # The file first: what follows reads it through indexes that this step may rebuild.
        self._check_file()
        images, codecs = self._check_images()
        self._check_orphans()
        # After the records, whose repair changes what the totals should be.
        self._check_totals()
        self._check_codecs(codecs)
        self._check_model_infos()
        self._check_snapshots()
        report = Report(images, self._findings)
        if self._repair and report.sound:
            self._compact()
        return report

    def _compact(self) -> None:
        """Rewrites a file of an earlier version, which could not give back free pages."""
        (auto_vacuum,) = self._connection.execute("PRAGMA auto_vacuum").fetchone()
        if auto_vacuum != _INCREMENTAL:
            self._connection.execute(f"PRAGMA auto_vacuum = {_INCREMENTAL}")
            self._connection.execute("VACUUM")

    def _report(
        self,
        part: str,
        what: str,
        id_: str | None = None,
        *,
        repaired: bool | None = None,
    ) -> None:
        if repaired is None:
            repaired = self._repair
        self._findings.append(Finding(part, what, id_, repaired))

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            # Some errors, such as a full disk, make SQLite roll back by itself.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def _check_file(self) -> None:
        problems = self._file_problems()
        repaired = False
        if problems and self._repair:
            # All that can be repaired in the file itself: indexes are derived from the tables.
            self._connection.execute("REINDEX")
            repaired = not self._file_problems()
        for problem in problems:
            self._report("file", problem, repaired=repaired)

    def _file_problems(self) -> list[str]:
        lines = self._connection.execute("PRAGMA integrity_check").fetchall()
        return [text for (text,) in lines if text != "ok"]

    def _check_images(self) -> tuple[int, set[str]]:
        """Checks records, their pictures, columns and terms; number of images, codecs in use."""
        numbers = self._connection.execute(
            "SELECT number, fingerprint FROM fingerprints"
        )
        fingerprints = dict(numbers.fetchall())
        images = 0
        codecs: set[str] = set()
        expected_terms = _SetHash()
        for image in self._rows():
            images += 1
            record = self._check_record(image)
            if record is None:
                continue
            codecs.add(record.codec)
            for name, value in metadata_terms(record.metadata):
                expected_terms.add(name, value, image.row)
            fingerprint = fingerprints.get(image.fingerprint_number)
            self._check_columns(image, record, fingerprint)
        self._check_terms(expected_terms)
        return images, codecs

    def _rows(self) -> Iterator[_Row]:
        # Block by block: a cursor that stays open while its table is repaired may return a row
        # twice or not at all.
        after = 0
        while block := self._block_after(after):
            yield from block
            after = block[-1].row

    def _block_after(self, row: int) -> list[_Row]:
        cursor = self._connection.execute(_IMAGES_QUERY, (row, _BLOCK_ROWS))
        return [_Row(*columns) for columns in cursor]

    def _check_record(self, image: _Row) -> Record | None:
        """The record, or None if it is damaged."""
        try:
            record, has_picture = decode_record(image.data)
        except RecordDamaged as error:
            self._remove_record(image, str(error))
            return None
        # The record tells its own id; the column may have been exchanged.
        if record.id != image.id:
            self._remove_record(image, f"the record of {record.id} stands in its place")
            return None
        self._check_picture(image, has_picture)
        return record

    def _remove_record(self, image: _Row, what: str) -> None:
        row = (image.row,)
        self._damaged_rows.add(image.row)
        if self._repair:
            # Put aside before it is deleted: a crash between the two leaves two copies, not none.
            self._put_aside(f"record-{image.row}.bin", image.data)
            picture = self._connection.execute(_PICTURE_QUERY, row).fetchone()
            if picture is not None:
                self._put_aside(f"picture-{image.row}.bin", picture[0])
            with self._transaction():
                self._connection.execute("DELETE FROM images WHERE row = ?", row)
                self._connection.execute("DELETE FROM pictures WHERE row = ?", row)
                self._connection.execute("DELETE FROM terms WHERE row = ?", row)
        self._report("record", what, image.id)

    def _check_picture(self, image: _Row, has_picture: bool) -> None:
        columns = self._connection.execute(_PICTURE_QUERY, (image.row,)).fetchone()
        problem = _picture_problem(image.id, columns, has_picture)
        if problem is None:
            return
        if self._repair:
            if columns is not None:
                self._put_aside(f"picture-{image.row}.bin", columns[0])
            # The flag in the record and the row of the picture in one transaction: they must agree.
            data = set_picture_flag(image.data, False)
            with self._transaction():
                update = "UPDATE images SET record = ? WHERE row = ?"
                self._connection.execute(update, (data, image.row))
                self._connection.execute(
                    "DELETE FROM pictures WHERE row = ?", (image.row,)
                )
        self._report("picture", problem, image.id)

    def _check_columns(
        self, image: _Row, record: Record, fingerprint: str | None
    ) -> None:
        # By the version of the record: the first kept embeddings of another size.
        embedding_bytes = embedding_byte_count(
            record.embedding.size, version_of(image.data)
        )
        columns = (fingerprint, image.token_bytes, image.embedding_bytes)
        if columns == (record.fingerprint, len(record.tokens), embedding_bytes):
            return
        if self._repair:
            with self._transaction():
                self._connection.execute(
                    "INSERT OR IGNORE INTO fingerprints (fingerprint) VALUES (?)",
                    (record.fingerprint,),
                )
                self._connection.execute(
                    "UPDATE images SET token_bytes = ?, embedding_bytes = ?, fingerprint ="
                    " (SELECT number FROM fingerprints WHERE fingerprint = ?) WHERE row = ?",
                    (
                        len(record.tokens),
                        embedding_bytes,
                        record.fingerprint,
                        image.row,
                    ),
                )
        self._report(
            "columns", "columns beside the record do not agree with it", record.id
        )

    def _check_orphans(self) -> None:
        query = "SELECT row, picture FROM pictures WHERE row NOT IN (SELECT row FROM images)"
        for row, picture in self._connection.execute(query).fetchall():
            if self._repair:
                self._put_aside(f"picture-{row}.bin", picture)
                with self._transaction():
                    self._connection.execute(
                        "DELETE FROM pictures WHERE row = ?", (row,)
                    )
            self._report("picture", f"a picture without a record (row {row})")

    def _check_terms(self, expected: _SetHash) -> None:
        actual = _SetHash()
        for name, value, row in self._connection.execute(
            "SELECT name, value, row FROM terms"
        ):
            if row not in self._damaged_rows:
                actual.add(name, value, row)
        if actual.total == expected.total:
            return
        if self._repair:
            self._rebuild_terms()
        self._report("terms", "the terms for filters do not agree with the records")

    def _rebuild_terms(self) -> None:
        insert = "INSERT INTO terms (name, value, row) VALUES (?, ?, ?)"
        # One transaction: between the deletion and the end, filters would find too little.
        with self._transaction():
            self._connection.execute("DELETE FROM terms")
            for image in self._rows():
                record, _ = decode_record(image.data)
                for name, value in metadata_terms(record.metadata):
                    self._connection.execute(insert, (name, value, image.row))

    def _check_totals(self) -> None:
        actual = self._connection.execute(f"SELECT {_TOTALS} FROM store").fetchone()
        expected = self._connection.execute(
            "SELECT COUNT(*), COALESCE(SUM(token_bytes), 0), COALESCE(SUM(embedding_bytes), 0),"
            " COALESCE(SUM(length(record) - token_bytes - embedding_bytes), 0),"
            " (SELECT COALESCE(SUM(length(picture)), 0) FROM pictures) FROM images"
        ).fetchone()
        if actual == expected:
            return
        if self._repair:
            with self._transaction():
                update = f"UPDATE store SET ({_TOTALS}) = (?, ?, ?, ?, ?)"
                self._connection.execute(update, expected)
        self._report("totals", "the totals do not agree with the records")

    def _check_codecs(self, names: set[str]) -> None:
        codecs = CodecRegistry(self._folder / "codecs")
        for name in sorted(names):
            try:
                codecs.by_name(name)
            except CodecError as error:
                # Trained state can be derived from nothing.
                self._report("codec", str(error), repaired=False)

    def _check_model_infos(self) -> None:
        for path in sorted((self._folder / MODEL_INFO_FOLDER).glob("*.json")):
            try:
                read_model_info(path)
            except StoreDamaged as error:
                if self._repair:
                    self._put_aside(path.name, path.read_bytes())
                    # It is written again when the library is opened with that model.
                    path.unlink()
                self._report("maker", str(error))

    def _check_snapshots(self) -> None:
        for path in sorted(self._folder.glob("vectors-*.snapshot")):
            try:
                verify_snapshot(path)
            except IndexDamaged as error:
                if self._repair:
                    path.unlink()
                self._report("snapshot", str(error))

    def _put_aside(self, name: str, data: object) -> None:
        """Writes damaged bytes to a file of their own in `damaged/`."""
        folder = self._folder / DAMAGED_FOLDER
        folder.mkdir(exist_ok=True)
        # Damage to a row's header makes text or a number of the bytes; what is left of them is
        # kept.
        if not isinstance(data, bytes):
            data = str(data).encode(errors="replace")
        path = folder / name
        number = 0
        # A row may be damaged again after a repair; the second file must not replace the first.
        while path.exists():
            number += 1
            path = folder / f"{Path(name).stem}-{number}{Path(name).suffix}"
        with store_errors("damaged bytes cannot be put aside"):
            write_bytes(path, data)


def _picture_problem(
    id_: str, columns: tuple[bytes] | None, has_picture: bool
) -> str | None:
    """The defect of a picture, given its row in `pictures` and the flag in the record."""
    if columns is None:
        return "the picture of the record is missing" if has_picture else None
    try:
        decode_picture(id_, columns[0])
    except RecordDamaged as error:
        return str(error)
    return None if has_picture else "there is a picture that the record does not have"


class _SetHash:
    """A sum of hashes: equal for equal terms in any order, in constant memory.

    Terms lie in the database by name, and come from the records by row: millions on both sides,
    which need not be sorted or held to be compared.
    """

    def __init__(self) -> None:
        self.total = 0

    def add(self, name: str, value: object, row: int) -> None:
        if isinstance(value, float):
            value += 0.0  # -0.0 becomes 0.0, as in SQLite, which keeps no sign of zero
        text = repr((name, value, row)).encode(errors="surrogatepass")
        hash_ = int.from_bytes(checksum(text, _HASH_BYTES))
        self.total = (self.total + hash_) % 2**128
