"""Bulk ingest: finds pictures under folders and stores them, several requests in flight, skipping
what is known.

Knows nothing of how progress is shown.
"""

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

# Endings taken from folders; a file that is named itself is sent whatever its name. The service
# decides by content.
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
    """What became of one file."""

    path: Path
    status: Literal["created", "exists", "failed"]
    image_id: str | None = None  # None where it failed
    reason: str | None = None  # only where it failed


def picture_paths(roots: Iterable[Path]) -> Iterator[Path]:
    """Files named in `roots`, and the pictures in folders below them, in order; hidden ones are
    left out.
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
    """Stores files, of each `tokens` summary tokens (all if None); outcomes as they come.

    A file that cannot be stored is an outcome; what would be the same for every file is raised:
    ConnectionFailed, AccessDenied, ResponseInvalid. When the iterator is closed early, requests in
    flight are finished and no other is begun; called again for the same files, it goes on where it
    stopped.
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
    """Sends one file at a time. Safe to call from several threads."""

    def __init__(self, precis: Precis, tokens: int | None) -> None:
        self._precis = precis
        self._tokens = tokens
        # Of the service's present model, known from the first upload on. Only what that model made
        # counts as stored.
        self._fingerprint: str | None = None

    def send(self, path: Path) -> Outcome:
        """What became of `path`."""
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
    """Why a request for one file failed: what the service said of that file, if it did."""
    match error:
        case ServiceProblem(members={"images": [{"error": {"detail": str(detail)}}]}):
            return detail
    return str(error)
