"""Files that are whole or absent, the checksums inside them, and I/O errors as the index's own."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from index.errors import StoreError, StoreFull, StoreReadOnly

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_PERMISSION = (errno.EACCES, errno.EPERM, errno.EROFS)
Write = Callable[[bytes], int]  # appends bytes to a file and returns how many


def checksum(data: bytes, size: int) -> bytes:
    """BLAKE2b of `data` in `size` bytes."""
    return hashlib.blake2b(data, digest_size=size).digest()


@contextlib.contextmanager
def store_errors(problem: str) -> Iterator[None]:
    """Turns an OSError into StoreFull, StoreReadOnly or StoreError; `problem` starts the message.

    The message ends with the file, where the error names one.
    Example: `with store_errors("the snapshot cannot be written"): …`.
    """
    try:
        yield
    except OSError as error:
        kind = StoreError
        if error.errno in _NO_SPACE:
            kind = StoreFull
        elif error.errno in _NO_PERMISSION:
            kind = StoreReadOnly
        file = "" if error.filename is None else f": {error.filename}"
        raise kind(f"{problem}: {error.strerror}{file}") from error


def write_whole(path: Path, write: Callable[[Write], object]) -> None:
    """Replaces the file at `path` by what `write` writes through the function it is passed.

    The file appears at `path` once all of its bytes are on the disk. Raises OSError, and then
    leaves what was at `path` before.
    """
    # In the same folder: a rename across file systems would be a copy, which is not atomic.
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as file:
            write(file.write)
            file.flush()
            # Before the rename: else a power cut may leave the new name on an empty file.
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def write_bytes(path: Path, data: bytes) -> None:
    """`write_whole` of bytes that are in memory already. Raises OSError."""
    write_whole(path, lambda write: write(data))


def sync_folder(folder: Path) -> None:
    """Flushes a folder's entries to the disk. Raises OSError."""
    # POSIX makes a rename durable only once the folder itself is synced.
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
