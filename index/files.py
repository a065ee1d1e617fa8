"""Writing a file whole or not at all.

Knows nothing of what is written.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
Take = Callable[[bytes], int]  # takes the next bytes of the file, says how many


def write_whole(path: Path, write: Callable[[Take], object]) -> None:
    """Calls `write` with a function that takes the file's bytes; the file is at `path` once all are
    on the disk.

    Raises OSError, and then leaves whatever was at `path` before.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as file:
            write(file.write)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def sync_folder(folder: Path) -> None:
    """Puts the names in a folder on the disk: a rename is durable only after this. Raises OSError."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
