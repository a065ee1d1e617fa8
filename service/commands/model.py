"""`precis model`: the default model's files."""

from __future__ import annotations

from pathlib import Path

import click

from service.models import build_default


@click.group()
def model() -> None:
    """Prepare the default model."""


@model.command("build")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
def build_command(folder: Path) -> None:
    """Convert the default model's checkpoints once and keep the result in FOLDER.

    A service builds what is missing at its start; building ahead of it saves the 20 seconds.
    """
    click.echo(build_default(folder))
