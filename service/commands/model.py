"""`precis model build`: the model's files."""

from __future__ import annotations

from pathlib import Path

import click

from compressor.errors import ExportFailed
from service.commands.flags import settings_from_flags
from service.models import build_default, export_passes


@click.command("build")
@click.argument(
    "folder", type=click.Path(path_type=Path, file_okay=False), required=False
)
def build_command(folder: Path | None) -> None:
    """Prepare the model's files once and keep them in FOLDER.

    Without FOLDER it is where a service looks for them: PRECIS_MODEL_DIR, or the platform's cache
    folder. The default model's checkpoints are converted; a service that finds nothing does so at
    its start, which takes 20 seconds. Only this command exports the passes of the model (of
    PRECIS_MODEL, with PRECIS_ADAPTERS) for ONNX Runtime: the first unless
    PRECIS_FIRST_PASS_ENGINE is `torch`, the second in int8 unless PRECIS_SECOND_PASS_ENGINE is
    `torch`, or `onnx` for float32. A service with both does without PyTorch.
    """
    settings = settings_from_flags({"model_dir": folder})
    if settings.model == "default":
        click.echo(build_default(settings.model_dir))
    for exported in export_passes(settings):
        if isinstance(exported, ExportFailed):
            click.echo(f"Not exported, PyTorch will run it: {exported}", err=True)
        else:
            click.echo(exported)
