"""Shards of an export: tar files of records and their pictures; docs/storage.md describes them."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from index.errors import ExportDamaged, RecordDamaged
from index.ports import Record
from index.store.record_format import (
    decode_picture,
    decode_record,
    encode_picture,
    encode_record,
)

_RECORD, _PICTURE = ".record", ".picture"


class ShardWriter:
    """One shard being written; whole and on the disk once `close` returns.

    Equal records give equal bytes.
    """

    def __init__(self, path: Path) -> None:
        """Raises OSError, also if there is such a file."""
        self.images = 0
        self._file = path.open("xb")
        self._tar = tarfile.open(fileobj=self._file, mode="w")  # noqa: SIM115

    @property
    def size_bytes(self) -> int:
        """How much has been written."""
        return self._file.tell()

    def close(self) -> None:
        """Ends the file and flushes it to the disk. Raises OSError."""
        with self._file:
            self._tar.close()
            self._file.flush()
            os.fsync(self._file.fileno())

    def add(self, record: Record) -> None:
        """Appends a record, and its picture if it has one. Raises OSError, LibraryError."""
        self.images += 1
        self._append(record.id + _RECORD, encode_record(record), record.created_at_ms)
        if record.picture is not None:
            data = encode_picture(record.id, record.picture)
            self._append(record.id + _PICTURE, data, record.created_at_ms)

    def _append(self, name: str, data: bytes, created_at_ms: int) -> None:
        member = tarfile.TarInfo(name)
        member.size = len(data)
        member.mtime = created_at_ms // 1000
        self._tar.addfile(member, io.BytesIO(data))


def read_shard(path: Path) -> Iterator[Record]:
    """The records of a shard, in order, with their pictures. Raises ExportDamaged."""
    try:
        with tarfile.open(path, "r:") as tar:
            while (member := tar.next()) is not None:
                record, has_picture = decode_record(_read(tar, member, _RECORD))
                if has_picture:
                    data = _read(tar, tar.next(), _PICTURE)
                    picture = decode_picture(record.id, data)
                    record = replace(record, picture=picture)
                yield record
    except (OSError, tarfile.TarError, RecordDamaged) as error:
        raise ExportDamaged(f"{path.name} cannot be read: {error}") from error


def _read(tar: tarfile.TarFile, member: tarfile.TarInfo | None, suffix: str) -> bytes:
    file = None
    if member is not None and member.name.endswith(suffix):
        file = tar.extractfile(member)
    if file is None:
        raise RecordDamaged(f"it lacks a {suffix[1:]} where one must be")
    with file:
        return file.read()
