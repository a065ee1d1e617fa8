"""The import folder: the files in it, in one order, opened so that nothing leads out of it."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from service.errors import InvalidInput
from service.use_cases.imports.content import suffix

Parts = tuple[str, ...]  # the names on the way from the import folder to a file


def parts_of(path: str) -> Parts:
    """The names in a relative path. Raises InvalidInput for one that leads elsewhere."""
    pure = PurePosixPath(path)
    if not path or pure.is_absolute() or ".." in pure.parts or "\0" in path:
        raise InvalidInput("`path` is a path below the import folder.")
    return pure.parts


def rank(parts: Parts) -> tuple[tuple[bool, str], ...]:
    """By which the walk is in rising order: a folder's files, then the folders in it, by name."""
    folders = [(True, name) for name in parts[:-1]]
    return (*folders, (False, parts[-1]))


def walk(
    root: Path, parts: Parts, suffixes: Set[str], passed_over: Counter[str]
) -> Iterator[Parts]:
    """The files below a folder that have one of the suffixes, in rising order of `rank`.

    Counts in `passed_over` what else is there, by reason.
    """
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
        elif suffix(entry.name) in suffixes:
            yield path
        else:
            passed_over[f"{shown((suffix(entry.name),))} files".lstrip()] += 1
    for folder in folders:
        yield from walk(root, folder, suffixes, passed_over)


def shown(parts: Sequence[str]) -> str:
    """A path as text that can be sent: U+FFFD in place of bytes that are not UTF-8."""
    return os.fsencode("/".join(parts)).decode(errors="replace")


def is_folder(root: Path, parts: Parts) -> bool:
    """Whether it is a folder, rather than a file. Raises OSError if it is not there."""
    with _descriptor(root, parts) as descriptor:
        return stat.S_ISDIR(os.fstat(descriptor).st_mode)


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
def opened(root: Path, parts: Sequence[str]) -> Iterator[BinaryIO]:
    """The opened file. Raises OSError for what is missing, a link or no regular file."""
    with _descriptor(root, parts) as descriptor:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError("not a regular file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            yield file
