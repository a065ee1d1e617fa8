"""`precis ingest`: stores whole folders, with a progress bar; resumable."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import click
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

from clients.commands.options import as_json_option, connected, print_json
from clients.errors import PrecisError
from clients.ingest import ingest_files, picture_paths
from clients.retries import RetryPolicy
from clients.sync_client import Precis

# A full queue must not fail a file in the middle of a folder. The service asks for pauses of a
# second or more, so this many attempts last for many minutes.
PATIENT = RetryPolicy(attempts=600)
_RESUME = "The same command continues from here."
INTERRUPTED = 130  # exit status of a command that SIGINT ended, by the shells' convention


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
    "--tokens", type=click.IntRange(min=1), help="Summary tokens to keep of each. [default: all]"
)
@as_json_option
@connected(retries=PATIENT)
def ingest(
    precis: Precis, paths: tuple[Path, ...], in_flight: int, tokens: int | None, as_json: bool
) -> None:
    """Store pictures from files and folders.

    Stored pictures are skipped, so after an interruption the same command continues. Exits with 1
    if a file could not be stored.
    """
    pictures = list(picture_paths(paths))
    if not pictures:
        raise click.ClickException("These folders hold no pictures.")
    console = Console(stderr=True, highlight=False)
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
                        f"{escape(str(outcome.path))}: {escape(str(outcome.reason))}",
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
