"""Checksums of an export's files, and the record of those that were found right.

A gigabyte takes seconds to read, and a start would do little else. So a file is read again only if
the system says that it may have changed, as Git decides it.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pydantic import BaseModel, ConfigDict, RootModel, ValidationError

from compressor.errors import ModelFilesInvalid

log = logging.getLogger(__name__)

# In the folder of the export, of which it is no part: a copy or another machine gets another one.
CHECKED = "checked.json"
# A file that changed so lately may change again without another time: the times of file systems
# go by ticks, the longest of which (FAT's) is this long.
_TICK_NS = 2_000_000_000


class FileSum(BaseModel):
    """Size and checksum of a file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    bytes: int
    # Hex. CPUs without instructions for SHA-256 need three times as long for that as for this.
    blake2b: str


class FileState(FileSum):
    """A file whose checksum was found right, and what changes when the file does.

    The inode is that of another file if one was copied or moved here. The time of the last change
    of the inode cannot be set by a program, as that of the content can.
    """

    inode: int
    mtime_ns: int
    ctime_ns: int


class _Checked(RootModel[dict[str, FileState]]):
    """States by the names of the files."""


def file_sums(folder: Path, but: str) -> dict[str, FileSum]:
    """Of all files of a folder, except the one of this name and the record."""
    names = sorted(path.name for path in folder.iterdir())
    return {
        name: _sum_of(folder / name) for name in names if name not in (but, CHECKED)
    }


def check_files(
    folder: Path, expected: Mapping[str, FileSum], *, read_all: bool = False
) -> None:
    """Raises ModelFilesInvalid unless each file of `expected` is whole.

    Reads those that may have changed since they were read, or all, and keeps a record of it.
    """
    known = {} if read_all else _known(folder)
    # Reading and hashing leave the interpreter to other threads.
    with ThreadPoolExecutor() as pool:
        states = pool.map(
            lambda name: _check(folder / name, expected[name], known.get(name)),
            expected,
        )
        checked = dict(zip(expected, states, strict=True))
    if checked != known:
        _record(folder, checked, time.time_ns())


def _check(path: Path, expected: FileSum, known: FileState | None) -> FileState:
    try:
        # Before it is read: a change from then on makes another state.
        state = _state_of(path, expected)
        if state == known:
            return state
        # The size first: a file that was cut off need not be read.
        is_whole = path.stat().st_size == expected.bytes and _sum_of(path) == expected
    except OSError as error:
        raise ModelFilesInvalid(f"{path} cannot be read") from error
    if not is_whole:
        raise ModelFilesInvalid(f"{path} is damaged: its checksum is another")
    return state


def _state_of(path: Path, expected: FileSum) -> FileState:
    """The state as it would be recorded if the file has the expected checksum."""
    status = path.stat()
    return FileState(
        bytes=status.st_size,
        blake2b=expected.blake2b,
        inode=status.st_ino,
        mtime_ns=status.st_mtime_ns,
        ctime_ns=status.st_ctime_ns,
    )


def _sum_of(path: Path) -> FileSum:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, hashlib.blake2b)
        return FileSum(bytes=file.tell(), blake2b=digest.hexdigest())


def _known(folder: Path) -> dict[str, FileState]:
    """The record; empty if there is none that can be read."""
    try:
        return _Checked.model_validate_json((folder / CHECKED).read_bytes()).root
    except (OSError, ValidationError):
        return {}


def _record(folder: Path, checked: Mapping[str, FileState], now_ns: int) -> None:
    """Written last, when every file was found right."""
    settled = {
        name: state
        for name, state in checked.items()
        if max(state.mtime_ns, state.ctime_ns) < now_ns - _TICK_NS
    }
    temporary = folder / f"{CHECKED}.{os.getpid()}.tmp"
    try:
        for name in settled:
            with (folder / name).open("rb") as file:
                # Read from memory so far: after a power cut, bytes that never reached the disk
                # would lie under a record that calls them right.
                os.fsync(file.fileno())
        temporary.write_text(_Checked(settled).model_dump_json(indent=2) + "\n")
        temporary.replace(folder / CHECKED)
    # Where the folder cannot be written to, the next start reads all files again.
    except OSError as error:
        log.debug("No record of checked files in %s: %s", folder, error)
