"""Run as a child process by test_disk_trouble.py: opens a library and puts until told otherwise,
reporting each step.

`python -m tests.index.store.disk_trouble SCENARIO FOLDER` prints one JSON line a step.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from pathlib import Path

from index.errors import LibraryError
from index.library import Library, open_library
from tests.index.samples import EMBEDDING_SIZE, FINGERPRINT, TOKEN_SHAPE, make_image


def open_here(folder: Path) -> Library:
    return open_library(
        folder,
        fingerprint=FINGERPRINT,
        token_shape=TOKEN_SHAPE,
        embedding_size=EMBEDDING_SIZE,
    )


def say(**what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def put_until_it_fails(library: Library, start: int) -> int:
    """Puts images one after the other; the number of the one that failed."""
    number = start
    while number < start + 5000:
        try:
            library.put([make_image(number)])
        except LibraryError as error:
            say(failed=number, error=type(error).__name__)
            return number
        say(stored=number)
        number += 1
    raise SystemExit("nothing failed")


def fill_up(folder: Path) -> None:
    """A folder with little space: once a blocker is deleted, the very same library goes on."""
    library = open_here(folder)
    failed = put_until_it_fails(library, 0)
    (folder / "blocker").unlink()
    library.put([make_image(failed)])
    say(stored=failed)
    library.close()


def outgrow(_: Path) -> None:
    """A limit on the size of files, lifted afterwards."""
    library = open_here(Path(sys.argv[2]))
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
    failed = put_until_it_fails(library, 0)
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    )
    library.put([make_image(failed)])
    say(stored=failed)
    library.close()


def fail_to_sync(folder: Path) -> None:
    """With a preloaded `fsync` that fails while the file named by FSYNC_FAILS exists."""
    library = open_here(folder)
    flag = Path(os.environ["FSYNC_FAILS"])
    for number in range(10):
        library.put([make_image(number)])
        say(stored=number)
    flag.touch()
    put_until_it_fails(library, 10)
    flag.unlink()
    for number in range(10, 20):
        library.put([make_image(number)])
        say(stored=number)
    library.close()


def only_open(folder: Path) -> None:
    """Says what opening the folder gives."""
    try:
        open_here(folder)
    except LibraryError as error:
        say(error=type(error).__name__)


if __name__ == "__main__":
    {"full": fill_up, "outgrow": outgrow, "fsync": fail_to_sync, "open": only_open}[
        sys.argv[1]
    ](Path(sys.argv[2]))
