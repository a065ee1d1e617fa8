"""Thumbnails in a terminal, where it can show pictures; else in coloured half cells."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from importlib.util import find_spec

import click
from rich.console import Console

HEIGHT_LINES = 8


def thumbnail_printer() -> Callable[[bytes], None]:
    """A function that prints an image file. Raises click.ClickException where that cannot be.

    Asks the terminal once which graphics it knows: Kitty's, Sixel, or none.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.ClickException("--thumbnails needs a terminal.")
    if find_spec("textual_image") is None:
        raise click.ClickException(
            "--thumbnails needs an extra: pip install 'precis-client[thumbnails]'"
        )
    # The module itself asks the terminal, while it is imported.
    from textual_image.renderable import Image

    console = Console()
    return lambda data: console.print(Image(io.BytesIO(data), height=HEIGHT_LINES))
