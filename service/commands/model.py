"""`precis model`: the default model's files."""

from __future__ import annotations

from pathlib import Path

import click

from service.commands.flags import settings_from_flags
from service.models import build_default


@click.group()
def model() -> None:
    """Prepare the default model."""


@model.command("build")
@click.argument(
    "folder", type=click.Path(path_type=Path, file_okay=False), required=False
)
def build_command(folder: Path | None) -> None:
    """Convert the default model's checkpoints once and keep the result in FOLDER.

    Without FOLDER it is where a service looks for it: PRECIS_MODEL_DIR, or the platform's cache
    folder. A service builds what is missing at its start; building ahead saves the 20 seconds.
    """
    click.echo(build_default(folder or settings_from_flags({}).model_dir))
