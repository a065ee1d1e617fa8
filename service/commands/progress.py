"""Progress bars of the commands, on stderr, so that stdout holds results alone."""

from __future__ import annotations

from functools import partial

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import track as rich_track

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
