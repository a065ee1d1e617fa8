"""`precis ingest`: stores whole folders, with a progress bar; resumable."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

import click
import httpx
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from precis_client.commands.options import as_json_option, connected, print_json, shown
from precis_client.errors import (
    NotFound,
    PrecisError,
    RequestRejected,
    ServiceBusy,
    ServiceFailed,
    ServiceProblem,
    TimedOut,
)
from precis_client.retries import BUSY, RetryPolicy
from precis_client.sync_client import Precis
from precis_client.uploads import PictureUpload

# Only files with these suffixes are taken from a folder. A file named by itself is always sent, for
# the service decides by content.
SUFFIXES = frozenset(
    {
        ".avif",
        ".bmp",
        ".dib",
        ".gif",
        ".heic",
        ".heif",
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


class _Late(Outcome):
    """A failure for want of time alone; the file may be sent again."""


def picture_paths(
    roots: Iterable[Path], passed_over: Counter[str] | None = None
) -> Iterator[Path]:
    """The files in `roots`, and the pictures in the folders in `roots`, sorted within a folder.

    What is passed over in a folder is counted in `passed_over`, by the reason.
    """
    counts = Counter() if passed_over is None else passed_over

    def note_unreadable(_: OSError) -> None:
        counts["unreadable folders"] += 1

    for root in roots:
        if not root.is_dir():
            yield root
            continue
        for folder, folders, files in os.walk(root, onerror=note_unreadable):
            hidden = [name for name in (*folders, *files) if name.startswith(".")]
            counts["hidden"] += len(hidden)
            folders[:] = sorted(set(folders) - set(hidden))
            for name in sorted(set(files) - set(hidden)):
                path = Path(folder, name)
                reason = _reason_to_pass_over(path)
                if reason is None:
                    yield path
                else:
                    counts[reason] += 1


def _reason_to_pass_over(path: Path) -> str | None:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        return f"{shown(suffix)} files" if suffix else "files without a suffix"
    # Reading a pipe would wait for its writer. A link to nowhere is not one: it fails, by name.
    is_special = path.exists() and not path.is_file()
    return "pipes and devices" if is_special else None


def ingest_files(
    precis: Precis, paths: Iterable[Path], *, in_flight: int, tokens: int | None = None
) -> Generator[Outcome, None, None]:
    """Stores files, keeping `tokens` summary tokens of each (all if None); yields the outcomes.

    A file that cannot be stored is an outcome. A file that comes too late at the service, which
    has a deadline for each request, is sent again with fewer requests in flight. An error that
    every file would share is raised: ConnectionFailed, AccessDenied, ResponseInvalid. Closing the
    iterator early lets the requests in flight finish and starts no other. Called again with the
    same files, it skips the stored ones.
    """
    sender = _Sender(precis, tokens)
    while True:
        late: list[Outcome] = []
        has_stored = False
        with closing(_send_all(sender, paths, in_flight)) as outcomes:
            for outcome in outcomes:
                if isinstance(outcome, _Late):
                    late.append(outcome)
                else:
                    has_stored |= outcome.status != "failed"
                    yield outcome
        # Alone in its queue and late all the same: it will not be in time the next time either.
        if in_flight == 1 and not has_stored:
            yield from late
            return
        if not late:
            return
        paths = [outcome.path for outcome in late]
        in_flight = max(1, in_flight // 4)


def _send_all(
    sender: _Sender, paths: Iterable[Path], in_flight: int
) -> Generator[Outcome, None, None]:
    """Sends each file once; outcomes as they come."""
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
            running |= {
                pool.submit(sender.send, path) for path in islice(remaining, len(done))
            }
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
                upload, metadata={"filename": upload.name}, tokens=self._tokens
            )
        except (RequestRejected, ServiceBusy, ServiceFailed, TimedOut) as error:
            kind = _Late if _is_late(error) else Outcome
            return kind(path, "failed", reason=_reason(error))
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


# A full queue must not fail a file in the middle of a folder. The service asks for pauses of a
# second or more, so this many attempts last for many minutes.
# A file that comes too late (504) is sent again with fewer beside it, see `ingest_files`.
PATIENT = RetryPolicy(attempts=600, longest_wait_s=120.0, statuses=BUSY)
# The service answers after its deadline and the step of the model that it falls into. Whoever hangs
# up before that sends the file again, and makes a slow service slower.
TIMEOUT_S = 1800.0
_RESUME = "The same command continues from here."
INTERRUPTED = (
    130  # exit status of a command that SIGINT ended, by the shells' convention
)


class _Rate(ProgressColumn):
    """Images per second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0.0:.1f}/s")


@click.command()
@click.argument(
    "paths",
    metavar="PATH...",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, path_type=Path),
)
@click.option(
    "--in-flight",
    type=click.IntRange(1, 256),
    default=32,
    show_default=True,
    help="How many requests to send at a time.",
)
@click.option(
    "--tokens",
    type=click.IntRange(min=1),
    help="Summary tokens to keep of each. [default: all]",
)
@as_json_option
@connected(retries=PATIENT, timeout_s=TIMEOUT_S)
def ingest(
    precis: Precis,
    paths: tuple[Path, ...],
    in_flight: int,
    tokens: int | None,
    as_json: bool,
) -> None:
    """Store pictures from files and folders.

    Stored pictures are skipped, so after an interruption the same command continues. Exits with 1
    if a file could not be stored.
    """
    passed_over: Counter[str] = Counter()
    pictures = list(picture_paths(paths, passed_over))
    console = Console(stderr=True, highlight=False)
    if passed_over.total():
        counted = (+passed_over).most_common()
        reasons = ", ".join(f"{count} {reason}" for reason, count in counted)
        console.print(f"Passed over: {escape(reasons)}.", soft_wrap=True)
    if not pictures:
        raise click.ClickException("These folders hold no pictures.")
    counts: Counter[str] = Counter()
    started_s = time.monotonic()
    try:
        sent = ingest_files(precis, pictures, in_flight=in_flight, tokens=tokens)
        with _progress(console) as progress, closing(sent) as outcomes:
            for outcome in progress.track(outcomes, total=len(pictures)):
                counts[outcome.status] += 1
                if as_json:
                    print_json(outcome)
                elif outcome.status == "failed":
                    console.print(
                        f"{escape(shown(outcome.path))}: {escape(shown(outcome.reason))}",
                        soft_wrap=True,
                    )
    except KeyboardInterrupt:
        console.print(f"Interrupted: {_summary(counts, started_s)}. {_RESUME}")
        raise SystemExit(INTERRUPTED) from None
    except PrecisError:
        console.print(f"Stopped: {_summary(counts, started_s)}. {_RESUME}")
        raise
    console.print(_summary(counts, started_s))
    if counts["failed"]:
        raise SystemExit(1)


def _progress(console: Console) -> Progress:
    return Progress(
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
        TextColumn("left"),
        console=console,
    )


def _summary(counts: Counter[str], started_s: float) -> str:
    spent_s = time.monotonic() - started_s
    done = counts.total()
    return (
        f"{counts['created']} added, {counts['exists']} known, {counts['failed']} failed "
        f"in {spent_s:.1f} s ({done / max(spent_s, 1e-3):.1f}/s)"
    )
