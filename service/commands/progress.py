"""Progress bars of the commands, and the last line after ^C; both on stderr, beside the results."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import track as rich_track

CONTINUES = "The same command continues where this one stopped."
_INTERRUPTED = 130  # exit status by convention: 128 and the number of SIGINT

track = partial(rich_track, console=Console(stderr=True), transient=True)


def progress_bar(description: str) -> Progress:
    """A bar with the number of images done and the time left; nothing unless on a terminal."""
    console = Console(stderr=True)
    return Progress(
        TextColumn(description),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


@contextmanager
def interruptible(outcome: str) -> Iterator[None]:
    """Ends the command at ^C with one line, which says what it has left."""
    try:
        yield
    except KeyboardInterrupt:
        click.echo(f"Interrupted. {outcome}", err=True)
        raise SystemExit(_INTERRUPTED) from None
