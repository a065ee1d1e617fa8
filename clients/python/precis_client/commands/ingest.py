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

from precis_client.commands.options import as_json_option, connected, print_json, shown
from precis_client.errors import PrecisError
from precis_client.ingestion import Ingestion
from precis_client.picture_paths import picture_paths
from precis_client.retries import BUSY, RetryPolicy
from precis_client.sync_client import Precis

# A full queue must not fail a file in the middle of a folder. The service asks for pauses of a
# second or more, so this many attempts last for many minutes.
# A file that comes too late (504) is sent again with fewer beside it, see Ingestion.
PATIENT = RetryPolicy(attempts=600, longest_wait_s=120.0, statuses=BUSY)
# The service answers after its deadline and the step of the model that it falls into. Whoever hangs
# up before that sends the file again, and makes a slow service slower.
TIMEOUT_S = 1800.0
_RESUME = "The same command continues from here."
# Exit status of a command that SIGINT ended, by the shells' convention.
INTERRUPTED = 130


class _Rate(ProgressColumn):
    """Images stored per second since the start; known ones, which cost little, do not count."""

    def render(self, task: Task) -> Text:
        added: int = task.fields["added"]
        return Text(f"{_rate(added, task.elapsed or 0.0):.1f}/s")


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
    help="The most requests at a time; fewer if the service does not keep up.",
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
        reasons = ", ".join(f"{shown(reason)} ({count})" for reason, count in counted)
        console.print(f"Passed over: {escape(reasons)}.", soft_wrap=True)
    if not pictures:
        raise click.ClickException(
            f"There are no pictures in {', '.join(shown(path) for path in paths)}."
        )
    counts: Counter[str] = Counter()
    started_s = time.monotonic()
    ingestion = Ingestion(precis, pictures, most_in_flight=in_flight, tokens=tokens)
    try:
        with (
            _progress(console) as progress,
            closing(ingestion.outcomes()) as outcomes,
        ):
            bar = progress.add_task("", total=len(pictures), added=0)
            for outcome in outcomes:
                counts[outcome.status] += 1
                progress.update(bar, advance=1, added=counts["created"])
                if as_json:
                    print_json(outcome)
                elif outcome.status == "failed":
                    console.print(
                        f"{escape(shown(outcome.path))}: {escape(shown(outcome.reason))}",
                        soft_wrap=True,
                    )
    except KeyboardInterrupt:
        console.print(
            f"Interrupted: {_summary(counts, started_s)}; {ingestion.in_flight} were on their "
            f"way and may have been stored. {_RESUME}",
            soft_wrap=True,
        )
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
    return (
        f"{counts['created']} added, {counts['exists']} known, {counts['failed']} failed "
        f"in {spent_s:.1f} s ({_rate(counts['created'], spent_s):.1f} added/s)"
    )


def _rate(added: int, spent_s: float) -> float:
    return added / max(spent_s, 1e-3)
