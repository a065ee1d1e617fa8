"""Pictures in a WebDataset shard or any other uncompressed tar."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby, islice
from pathlib import PurePosixPath
from typing import Any, BinaryIO

from service.errors import ImportUnreadable
from service.use_cases.imports.content import (
    FILENAME,
    Content,
    ShardPicture,
    check_size,
    picture_suffixes,
    suffix,
)

CAPTION = "caption"  # key in the metadata


def count(file: BinaryIO) -> int:
    """How many pictures there are. Raises ImportUnreadable, OSError."""
    return sum(1 for _ in _pictures(file))


def pictures(file: BinaryIO, start: int, max_bytes: int) -> Iterator[ShardPicture]:
    """The pictures from a number on, each with the JSON object and the caption beside it.

    Raises ImportUnreadable, OSError.
    """
    for member, sample in islice(_pictures(file), start, None):
        yield f"/{member.name}", partial(sample.content, member, max_bytes)


def _pictures(file: BinaryIO) -> Iterator[tuple[tarfile.TarInfo, _Sample]]:
    """Each picture with the sample that it belongs to. Raises ImportUnreadable."""
    try:
        with tarfile.open(fileobj=file, mode="r:") as archive:
            for _, members in groupby(_members(archive), key=_stem):
                sample = _Sample(archive, list(members))
                for member in sample.members:
                    if suffix(member.name) in picture_suffixes():
                        yield member, sample
            # `tarfile` takes a header that is cut off for the end.
            file.seek(archive.offset)
            if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise ImportUnreadable("The tar file is cut off.")
    except (tarfile.TarError, EOFError) as error:
        raise ImportUnreadable(f"The tar file cannot be read: {error}") from error


def _members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    while (member := archive.next()) is not None:
        # Otherwise all members of the archive stay in memory.
        archive.members = []  # type: ignore[attr-defined]  # typeshed does not know it
        if member.isreg():
            yield member


def _stem(member: tarfile.TarInfo) -> str:
    return member.name.rpartition(".")[0]


@dataclass(frozen=True)
class _Sample:
    """Members of a tar whose names differ in their suffix alone."""

    archive: tarfile.TarFile
    members: Sequence[tarfile.TarInfo]

    def content(self, picture: tarfile.TarInfo, max_bytes: int) -> Content:
        """A picture with what its neighbours say: a JSON object and a caption."""
        metadata: dict[str, Any] = {FILENAME: PurePosixPath(picture.name).name}
        try:
            for member in self.members:
                metadata |= self._said(member, max_bytes)
            data = self._read(picture, max_bytes)
        except (tarfile.TarError, OSError, EOFError) as error:
            raise ImportUnreadable("The tar file is damaged there.") from error
        return Content(data, metadata)

    def _said(self, member: tarfile.TarInfo, max_bytes: int) -> dict[str, Any]:
        kind = suffix(member.name)
        if kind not in (".json", ".txt") or not member.size:
            return {}
        text = self._read(member, max_bytes).decode(errors="replace")
        if kind == ".txt":
            return {CAPTION: text.strip()}
        try:
            record = json.loads(text)
        except (ValueError, RecursionError):
            return {}
        return record if isinstance(record, dict) else {}

    def _read(self, member: tarfile.TarInfo, max_bytes: int) -> bytes:
        file = self.archive.extractfile(member)
        if file is None:
            raise ImportUnreadable("It is no file.")
        with file:
            check_size(member.size, max_bytes)
            return file.read()
