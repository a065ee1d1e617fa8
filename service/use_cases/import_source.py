"""Pictures on the service's own disk that a job imports: files, folders, tar and Parquet shards.

Nothing outside the import folder is read: no path leads out of it, and no link is followed.
"""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from service.errors import ImportUnreadable, InvalidInput, PictureError
from service.use_cases.imports import parquet_shard, tar_shard
from service.use_cases.imports.content import (
    FILENAME,
    Content,
    ShardPicture,
    check_size,
    picture_suffixes,
    suffix,
)
from service.use_cases.imports.folder import (
    Parts,
    is_folder,
    opened,
    parts_of,
    rank,
    shown,
    walk,
)


@dataclass(frozen=True)
class _Shard:
    """A kind of file that holds many pictures. Both raise ImportUnreadable and OSError."""

    count: Callable[[BinaryIO], int]
    # From a number on, each of at most so many bytes.
    pictures: Callable[[BinaryIO, int, int], Iterator[ShardPicture]]


_SHARDS: Mapping[str, _Shard] = {
    ".tar": _Shard(tar_shard.count, tar_shard.pictures),
    ".parquet": _Shard(parquet_shard.count, parquet_shard.pictures),
}


@dataclass(frozen=True)
class Place:
    """Where a picture lies: a file below the import folder, and its number in that file."""

    parts: Parts
    number: int = 0

    def is_behind(self, parts: Parts) -> bool:
        """Whether the walk meets the file `parts` before this one."""
        return rank(parts) < rank(self.parts)


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
        self._parts = parts_of(path)
        self._max_bytes = max_bytes
        try:
            self._is_folder = is_folder(root, self._parts)
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
            yield from walk(self._root, self._parts, import_suffixes(), passed_over)
        else:
            yield self._parts

    def _count_in(self, parts: Parts) -> int:
        shard = _SHARDS.get(suffix(shown(parts)))
        if shard is None:
            return 1
        try:
            with opened(self._root, parts) as file:
                return shard.count(file)
        except (OSError, ImportUnreadable):
            # It will be told as the failure of the whole file.
            return 1

    def _pictures_in(self, parts: Parts, start: int) -> Iterator[Found]:
        """The pictures in one file from a number on."""
        name = shown(parts)
        shard = _SHARDS.get(suffix(name))
        if shard is None:
            if start == 0:
                yield Found(Place(parts), name, partial(self._read_file, parts))
            return
        number = start
        try:
            with opened(self._root, parts) as file:
                for inner, read in shard.pictures(file, start, self._max_bytes):
                    yield Found(Place(parts, number), name + inner, read)
                    number += 1
        except (OSError, ImportUnreadable) as error:
            unreadable = _unreadable(name, error)
            yield Found(Place(parts, number), name, partial(_raise, unreadable))

    def _read_file(self, parts: Parts) -> Content:
        try:
            with opened(self._root, parts) as file:
                size = os.fstat(file.fileno()).st_size
                check_size(size, self._max_bytes)
                data = file.read(size)
        except OSError as error:
            raise _unreadable(shown(parts), error) from error
        return Content(data, {FILENAME: shown(parts[-1:])})


def import_suffixes() -> frozenset[str]:
    """Suffixes of the files that are taken from a folder."""
    return picture_suffixes() | _SHARDS.keys()


def pictures_in(name: str, data: bytes, max_bytes: int) -> Iterator[ShardPicture]:
    """The pictures in a file that somebody else has read; names begin with that of the file.

    Raises ImportUnreadable.
    """
    shard = _SHARDS.get(suffix(name))
    if shard is None:
        yield name, partial(_content, name, data, max_bytes)
        return
    for inner, read in shard.pictures(io.BytesIO(data), 0, max_bytes):
        yield name + inner, read


def _content(name: str, data: bytes, max_bytes: int) -> Content:
    check_size(len(data), max_bytes)
    return Content(data, {FILENAME: PurePosixPath(name).name})


def _unreadable(name: str, error: Exception) -> ImportUnreadable:
    if isinstance(error, ImportUnreadable):
        return error
    reason = getattr(error, "strerror", None) or "It cannot be read"
    return ImportUnreadable(f"{name}: {reason}.")


def _raise(error: PictureError) -> Content:
    raise error
