"""Bulk ingest: finds pictures in folders and stores them, with several requests in flight."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from clients.errors import (
    NotFound,
    RequestRejected,
    ServiceBusy,
    ServiceFailed,
    ServiceProblem,
    TimedOut,
)
from clients.results import FailedFile
from clients.sync_client import Precis
from clients.uploads import PictureUpload

# Only files with these suffixes are taken from a folder. A file named by itself is always sent, for
# the service decides by content.
SUFFIXES = frozenset(
    {
        ".avif",
        ".bmp",
        ".dib",
        ".gif",
        ".jfif",
        ".jpe",
        ".jpeg",
        ".jpg",
        ".png",
        ".tif",
        ".tiff",
        ".webp",
    }
)


@dataclass(frozen=True)
class Outcome:
    """The outcome for one file."""

    path: Path
    status: Literal["created", "exists", "failed"]
    image_id: str | None = None  # None if it failed
    reason: str | None = None  # None unless it failed


def picture_paths(roots: Iterable[Path]) -> Iterator[Path]:
    """The files in `roots`, and the pictures in the folders in `roots`, sorted within a folder.

    Hidden files and folders are skipped.
    """
    for root in roots:
        if not root.is_dir():
            yield root
            continue
        for folder, folders, files in os.walk(root):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(files):
                if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES:
                    yield Path(folder, name)


def ingest_files(
    precis: Precis, paths: Iterable[Path], *, in_flight: int, tokens: int | None = None
) -> Generator[Outcome, None, None]:
    """Stores files, keeping `tokens` summary tokens of each (all if None); yields the outcomes.

    A file that cannot be stored is an outcome. An error that every file would share is raised:
    ConnectionFailed, AccessDenied, ResponseInvalid. Closing the iterator early lets the requests in
    flight finish and starts no other. Called again with the same files, it skips the stored ones.
    """
    sender = _Sender(precis, tokens)
    remaining = iter(paths)
    pool = ThreadPoolExecutor(in_flight, thread_name_prefix="ingest")
    try:
        running: set[Future[Outcome]] = {
            pool.submit(sender.send, path) for path in islice(remaining, in_flight)
        }
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
            running |= {pool.submit(sender.send, path) for path in islice(remaining, len(done))}
    finally:
        pool.shutdown(cancel_futures=True)


class _Sender:
    """Sends one file at a time. Thread-safe."""

    def __init__(self, precis: Precis, tokens: int | None) -> None:
        self._precis = precis
        self._tokens = tokens
        # Of the service's present model, known after the first upload. An image counts as stored
        # only if this model made its tokens.
        self._fingerprint: str | None = None

    def send(self, path: Path) -> Outcome:
        """Sends the file unless it is stored already."""
        try:
            upload = PictureUpload.read(path)
        except OSError as error:
            return Outcome(path, "failed", reason=error.strerror or str(error))
        try:
            if self._is_stored(upload):
                return Outcome(path, "exists", upload.id)
            (image,) = self._precis.add(
                upload, metadata={"filename": path.name}, tokens=self._tokens
            )
        except (RequestRejected, ServiceBusy, ServiceFailed, TimedOut) as error:
            return Outcome(path, "failed", reason=_reason(error))
        if isinstance(image, FailedFile):
            return Outcome(path, "failed", reason=image.error.detail)
        self._fingerprint = image.fingerprint
        return Outcome(path, image.status, image.id)

    def _is_stored(self, upload: PictureUpload) -> bool:
        if self._fingerprint is None:
            return False
        try:
            image = self._precis.image(upload.id)
        except NotFound:
            return False
        return image.fingerprint == self._fingerprint and image.tokens.count >= (self._tokens or 1)


def _reason(error: Exception) -> str:
    """Why the request for one file failed: the service's detail on that file, if there is one."""
    match error:
        case ServiceProblem(members={"images": [{"error": {"detail": str(detail)}}]}):
            return detail
    return str(error)
