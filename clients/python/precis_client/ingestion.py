"""Many files to a service: several requests at a time, as many as it keeps up with."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Literal

import httpx

from precis_client.errors import (
    NotFound,
    RequestRejected,
    ServiceBusy,
    ServiceFailed,
    ServiceProblem,
    TimedOut,
)
from precis_client.picture_paths import file_metadata
from precis_client.sync_client import Precis
from precis_client.uploads import PictureUpload

FIRST_IN_FLIGHT = 4
# How often a file may come too late that is alone at the service: it will not be in time then.
LATE_ALONE = 2


@dataclass(frozen=True)
class Outcome:
    """The outcome for one file."""

    path: Path
    status: Literal["created", "exists", "failed"]
    image_id: str | None = None  # None if it failed
    reason: str | None = None  # None unless it failed
    may_pass: bool = (
        False  # of a failure: the service's, so that another try may succeed
    )


class _Late(Outcome):
    """A failure for want of time alone; the file may be sent again."""


class Ingestion:
    """Stores files, with at most `most_in_flight` requests at a time. To be iterated over once.

    The number of requests grows by one with each file stored, and is halved by a file that comes
    too late at the service, which has a deadline for each request; that file is sent again.
    """

    def __init__(
        self,
        precis: Precis,
        paths: Iterable[Path],
        *,
        most_in_flight: int,
        tokens: int | None = None,
    ) -> None:
        """`tokens` summary tokens are kept of each file, all if None."""
        self.in_flight = 0  # requests whose outcome is not known yet
        self._allowed = min(FIRST_IN_FLIGHT, most_in_flight)
        self._most = most_in_flight
        self._paths = iter(paths)
        self._again: deque[Path] = deque()
        self._alone: set[Path] = set()  # of those in flight
        self._late_alone: Counter[Path] = Counter()
        self._sender = _Sender(precis, tokens)

    def outcomes(self) -> Generator[Outcome, None, None]:
        """Sends the files; the outcome of each, as they come.

        A file that cannot be stored is an outcome. An error that every file would share is raised:
        ConnectionFailed, AccessDenied, ResponseInvalid. Closing the iterator early starts no other
        request and waits for none. With the same files again, the stored ones are skipped.
        """
        workers = _Workers(self._sender)
        try:
            while True:
                self._start(workers)
                if self.in_flight == 0:
                    return
                outcome = workers.done.get()
                self.in_flight -= 1
                if isinstance(outcome, BaseException):
                    raise outcome
                if isinstance(outcome, _Late) and self._may_try_again(outcome.path):
                    self._allowed = max(1, self._allowed // 2)
                    self._again.append(outcome.path)
                    continue
                if outcome.status != "failed":
                    self._allowed = min(self._most, self._allowed + 1)
                yield outcome
        finally:
            workers.stop()

    def _start(self, workers: _Workers) -> None:
        while self.in_flight < self._allowed:
            path = self._again.popleft() if self._again else next(self._paths, None)
            if path is None:
                return
            if self._allowed == 1:
                self._alone.add(path)
            workers.send(path, self.in_flight)
            self.in_flight += 1

    def _may_try_again(self, late: Path) -> bool:
        if late in self._alone:
            self._alone.remove(late)
            self._late_alone[late] += 1
        return self._late_alone[late] < LATE_ALONE


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
            metadata = file_metadata(path)
        except OSError as error:
            return Outcome(path, "failed", reason=error.strerror or str(error))
        try:
            if self._is_stored(upload):
                return Outcome(path, "exists", upload.id)
            (image,) = self._precis.add(upload, metadata=metadata, tokens=self._tokens)
        except (RequestRejected, ServiceBusy, ServiceFailed, TimedOut) as error:
            kind = _Late if _is_late(error) else Outcome
            may_pass = not isinstance(error, RequestRejected)
            return kind(path, "failed", reason=_reason(error), may_pass=may_pass)
        self._fingerprint = image.fingerprint
        return Outcome(path, image.status, image.id)

    def _is_stored(self, upload: PictureUpload) -> bool:
        if self._fingerprint is None:
            return False
        try:
            image = self._precis.image(upload.id)
        except NotFound:
            return False
        return image.fingerprint == self._fingerprint and image.tokens.count >= (
            self._tokens or 1
        )


def _is_late(error: Exception) -> bool:
    """Whether the file waited in the service's queue for longer than a request may take."""
    if isinstance(error, ServiceProblem):
        return error.status == httpx.codes.GATEWAY_TIMEOUT
    return isinstance(error, TimedOut)


def _reason(error: Exception) -> str:
    """Why the request for one file failed: the service's detail on that file, if there is one."""
    match error:
        case ServiceProblem(members={"images": [{"error": {"detail": str(detail)}}]}):
            return detail
    return str(error)


class _Workers:
    """Threads that send files. Daemons: the end of the program waits for no request."""

    def __init__(self, sender: _Sender) -> None:
        self.done: SimpleQueue[Outcome | BaseException] = SimpleQueue()
        self._sender = sender
        self._todo: SimpleQueue[Path | None] = SimpleQueue()
        self._threads = 0

    def send(self, path: Path, in_flight: int) -> None:
        """Sends the file, beside `in_flight` others."""
        if in_flight == self._threads:
            threading.Thread(target=self._work, name="ingest", daemon=True).start()
            self._threads += 1
        self._todo.put(path)

    def stop(self) -> None:
        """Ends each thread after its request."""
        for _ in range(self._threads):
            self._todo.put(None)

    def _work(self) -> None:
        while (path := self._todo.get()) is not None:
            try:
                self.done.put(self._sender.send(path))
            except BaseException as error:
                self.done.put(error)
