"""Pictures on the service's own disk that a job imports: files, folders, tar and Parquet shards.

Nothing outside the import folder is read: no path leads out of it, and no link is followed.
"""

from __future__ import annotations

import json
import math
import os
import stat
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from itertools import groupby, islice
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from PIL import Image

from compressor.training.datasets import IMAGE_COLUMNS
from service.errors import (
    EmptyFile,
    ImportUnreadable,
    InvalidInput,
    PictureError,
    UploadTooLarge,
)
from service.use_cases.images import formats

TAR, PARQUET = ".tar", ".parquet"
FILENAME = "filename"  # key in the metadata, as `precis ingest` writes it
CAPTION = "caption"
_PARQUET_ROWS = 16  # read at a time

Parts = tuple[str, ...]  # the names on the way from the import folder to a file


@dataclass(frozen=True)
class Place:
    """Where a picture lies: a file below the import folder, and its number in that file."""

    parts: Parts
    number: int = 0

    def is_behind(self, parts: Parts) -> bool:
        """Whether the walk meets the file `parts` before this one."""
        return _rank(parts) < _rank(self.parts)


@dataclass(frozen=True)
class Content:
    """What an import reads of one picture."""

    data: bytes
    metadata: Mapping[str, Any]  # found beside the picture; not checked


@dataclass(frozen=True)
class Found:
    """A picture, or a file in which none can be found.

    `read` may be called until the next one is asked for. It raises PictureError, UploadTooLarge or
    ImportUnreadable.
    """

    place: Place
    name: str
    read: Callable[[], Content]


class ImportSource:
    """The pictures in one file or folder below the import folder, always in the same order."""

    def __init__(self, root: Path, path: str, max_bytes: int) -> None:
        """`max_bytes` is the largest picture. Raises InvalidInput for a path that is not there."""
        self._root = root
        self._parts = _parts_of(path)
        self._max_bytes = max_bytes
        try:
            with _descriptor(root, self._parts) as descriptor:
                self._is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        except OSError as error:
            # Whether it is missing, a link or forbidden is not for every caller to know.
            raise InvalidInput(f"There is no {path!r} in the import folder.") from error

    def count(self, check: Callable[[], object]) -> tuple[int, Counter[str]]:
        """How many pictures there are, and what is passed over, by reason.

        Calls `check` at every file; what it raises ends the count.
        """
        passed_over: Counter[str] = Counter()
        total = 0
        for parts in self._files(passed_over):
            check()
            total += self._count_in(parts)
        return total, passed_over

    def pictures(self, after: Place | None = None) -> Iterator[Found]:
        """The pictures, or only those that come after a place."""
        for parts in self._files(Counter()):
            start = 0
            if after is not None:
                if after.is_behind(parts):
                    continue
                start = after.number + 1 if parts == after.parts else 0
            yield from self._pictures_in(parts, start)

    def _files(self, passed_over: Counter[str]) -> Iterator[Parts]:
        if self._is_folder:
            yield from _walk(self._root, self._parts, passed_over)
        else:
            yield self._parts

    def _count_in(self, parts: Parts) -> int:
        suffix = _suffix(parts)
        if suffix not in (TAR, PARQUET):
            return 1
        try:
            with _opened(self._root, parts) as file:
                if suffix == PARQUET:
                    rows: int = _parquet(file).metadata.num_rows
                    return rows
                count = 0
                for _ in _tar_pictures(file):
                    count += 1
                return count
        except (OSError, ImportUnreadable):
            # It will be told as the failure of the whole file.
            return 1

    def _pictures_in(self, parts: Parts, start: int) -> Iterator[Found]:
        """The pictures in one file from a number on."""
        name = _shown(parts)
        kind = _KINDS.get(_suffix(parts))
        if kind is None:
            if start == 0:
                yield Found(Place(parts), name, partial(self._read_file, parts))
            return
        number = start
        try:
            with _opened(self._root, parts) as file:
                for inner, read in kind(file, start, self._max_bytes):
                    yield Found(Place(parts, number), name + inner, read)
                    number += 1
        except (OSError, ImportUnreadable) as error:
            unreadable = _unreadable(name, error)
            yield Found(Place(parts, number), name, partial(_raise, unreadable))

    def _read_file(self, parts: Parts) -> Content:
        try:
            with _opened(self._root, parts) as file:
                size = os.fstat(file.fileno()).st_size
                data = _checked(file, size, self._max_bytes)
        except OSError as error:
            raise _unreadable(_shown(parts), error) from error
        return Content(data, {FILENAME: _shown(parts[-1:])})


# The walk. A folder's files come before the folders in it, both sorted by name.


def _rank(parts: Parts) -> tuple[tuple[bool, str], ...]:
    """By which the walk is in rising order."""
    folders = [(True, name) for name in parts[:-1]]
    return (*folders, (False, parts[-1]))


def _walk(root: Path, parts: Parts, passed_over: Counter[str]) -> Iterator[Parts]:
    try:
        with os.scandir(root.joinpath(*parts)) as scanned:
            entries = sorted(scanned, key=lambda entry: entry.name)
    except OSError:
        passed_over["unreadable folders"] += 1
        return
    folders = []
    for entry in entries:
        path = (*parts, entry.name)
        if entry.name.startswith("."):
            passed_over["hidden"] += 1
        elif entry.is_symlink():
            passed_over["links"] += 1
        elif entry.is_dir(follow_symlinks=False):
            folders.append(path)
        elif not entry.is_file(follow_symlinks=False):
            passed_over["pipes and devices"] += 1
        elif _suffix(path) in _suffixes():
            yield path
        else:
            passed_over[f"{_shown((_suffix(path),))} files".lstrip()] += 1
    for folder in folders:
        yield from _walk(root, folder, passed_over)


def _suffix(parts: Parts) -> str:
    return PurePosixPath(parts[-1]).suffix.lower()


@cache
def _suffixes() -> frozenset[str]:
    """Of the files that are taken from a folder."""
    readable = formats()
    pictures = [
        suffix
        for suffix, name in Image.registered_extensions().items()
        if name in readable
    ]
    return frozenset((*pictures, TAR, PARQUET))


def _parts_of(path: str) -> Parts:
    """The names in a relative path. Raises InvalidInput for one that leads elsewhere."""
    pure = PurePosixPath(path)
    if not path or pure.is_absolute() or ".." in pure.parts or "\0" in path:
        raise InvalidInput("`path` is a path below the import folder.")
    return pure.parts


# Opening: each name on the way is opened in the folder before it, and none may be a link. So
# nothing that is exchanged meanwhile leads out of the import folder.


@contextmanager
def _descriptor(root: Path, parts: Sequence[str]) -> Iterator[int]:
    # A pipe must not be waited for.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in parts:
            inner = os.open(part, flags, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _opened(root: Path, parts: Sequence[str]) -> Iterator[BinaryIO]:
    """Raises OSError."""
    with _descriptor(root, parts) as descriptor:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError("not a regular file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            yield file


def _checked(file: Any, size: int, max_bytes: int) -> bytes:
    """What is left of a file of this size. Raises EmptyFile or UploadTooLarge."""
    if not size:
        raise EmptyFile("The file has no bytes.")
    if size > max_bytes:
        raise UploadTooLarge(f"It has {size} bytes, the limit is {max_bytes}.")
    data: bytes = file.read(size)
    return data


# Shards: (name within the shard, how to read it) of each picture.

_Inner = tuple[str, Callable[[], Content]]


def _tar_pictures(file: BinaryIO) -> Iterator[tuple[tarfile.TarInfo, _TarSample]]:
    """The pictures of a WebDataset shard or any other tar. Raises ImportUnreadable."""
    try:
        with tarfile.open(fileobj=file, mode="r:") as archive:
            for _, members in groupby(_tar_members(archive), key=_tar_stem):
                sample = _TarSample(archive, list(members))
                for member in sample.members:
                    if _suffix((member.name,)) in _suffixes() - {TAR, PARQUET}:
                        yield member, sample
            # `tarfile` takes a header that is cut off for the end.
            file.seek(archive.offset)
            if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise ImportUnreadable("The tar file is cut off.")
    except (tarfile.TarError, EOFError) as error:
        raise ImportUnreadable(f"The tar file cannot be read: {error}") from error


def _tar_members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    while (member := archive.next()) is not None:
        # Otherwise all members of the archive stay in memory.
        archive.members = []  # type: ignore[attr-defined]  # typeshed does not know it
        if member.isreg():
            yield member


def _tar_stem(member: tarfile.TarInfo) -> str:
    return member.name.rpartition(".")[0]


@dataclass(frozen=True)
class _TarSample:
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
        suffix = _suffix((member.name,))
        if suffix not in (".json", ".txt") or not member.size:
            return {}
        text = self._read(member, max_bytes).decode(errors="replace")
        if suffix == ".txt":
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
            return _checked(file, member.size, max_bytes)


def _of_tar(file: BinaryIO, start: int, max_bytes: int) -> Iterator[_Inner]:
    for member, sample in islice(_tar_pictures(file), start, None):
        yield f"/{member.name}", partial(sample.content, member, max_bytes)


def _parquet(file: BinaryIO) -> Any:
    """The opened file. Raises ImportUnreadable."""
    try:
        import pyarrow as pa  # only needed for such files
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ImportUnreadable(
            "Parquet is read with pyarrow, the extra `parquet`."
        ) from error
    try:
        return pq.ParquetFile(file)
    except (pa.ArrowException, OSError) as error:
        raise ImportUnreadable("The file is cut off or no Parquet file.") from error


def _of_parquet(file: BinaryIO, start: int, max_bytes: int) -> Iterator[_Inner]:
    parquet = _parquet(file)
    import pyarrow as pa  # there by now

    names = parquet.schema_arrow.names
    column = next(filter(names.__contains__, IMAGE_COLUMNS), None)
    if column is None:
        wanted = ", ".join(IMAGE_COLUMNS)
        raise ImportUnreadable(f"It has no column of pictures: one of {wanted}.")
    others = [
        field.name
        for field in parquet.schema_arrow
        if not (pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type))
    ]
    columns = list(dict.fromkeys([column, *others]))
    number = 0
    try:
        for group in range(parquet.num_row_groups):
            rows = parquet.metadata.row_group(group).num_rows
            if number + rows <= start:
                number += rows
                continue
            for batch in parquet.iter_batches(
                _PARQUET_ROWS, [group], columns, use_threads=False
            ):
                for row in batch.to_pylist():
                    if number >= start:
                        read = partial(_of_row, row, column, max_bytes)
                        yield f"#{number}", read
                    number += 1
    except (pa.ArrowException, OSError) as error:
        raise ImportUnreadable("The Parquet file is damaged there.") from error


def _of_row(row: dict[str, Any], column: str, max_bytes: int) -> Content:
    """A picture with the plain values beside it."""
    cell = row[column]
    metadata = {}
    if isinstance(cell, dict):
        path = cell.get("path")
        if isinstance(path, str) and path:
            metadata[FILENAME] = PurePosixPath(path).name
        cell = cell.get("bytes")
    if not isinstance(cell, bytes) or not cell:
        raise EmptyFile("The row has no picture.")
    if len(cell) > max_bytes:
        raise UploadTooLarge(f"It has {len(cell)} bytes, the limit is {max_bytes}.")
    for name, value in row.items():
        if name != column and _is_plain(value):
            metadata[name] = value
    return Content(cell, metadata)


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_plain, value))
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, str | int)


_KINDS: Mapping[str, Callable[[BinaryIO, int, int], Iterator[_Inner]]] = {
    TAR: _of_tar,
    PARQUET: _of_parquet,
}


def _unreadable(name: str, error: Exception) -> ImportUnreadable:
    if isinstance(error, ImportUnreadable):
        return error
    reason = getattr(error, "strerror", None) or "It cannot be read"
    return ImportUnreadable(f"{name}: {reason}.")


def _raise(error: PictureError) -> Content:
    raise error


def _shown(parts: Sequence[str]) -> str:
    """A path as text that can be sent: U+FFFD in place of bytes that are not UTF-8."""
    return os.fsencode("/".join(parts)).decode(errors="replace")
