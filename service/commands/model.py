"""`precis model build`: the model's files."""

from __future__ import annotations

from pathlib import Path

import click

from compressor.errors import ExportFailed
from service.commands.flags import settings_from_flags
from service.models import build_default, export_second_pass


@click.command("build")
@click.argument(
    "folder", type=click.Path(path_type=Path, file_okay=False), required=False
)
def build_command(folder: Path | None) -> None:
    """Prepare the model's files once and keep them in FOLDER.

    Without FOLDER it is where a service looks for them: PRECIS_MODEL_DIR, or the platform's cache
    folder. The default model's checkpoints are converted; a service that finds nothing does so at
    its start, which takes 20 seconds. Unless PRECIS_SECOND_PASS_ENGINE is `torch`, the second
    pass of the model (of PRECIS_MODEL, with PRECIS_ADAPTERS) is also exported for ONNX Runtime, in
    int8 or, with `onnx`, in float32; only this command does that.
    """
    settings = settings_from_flags({"model_dir": folder})
    if settings.model == "default":
        click.echo(build_default(settings.model_dir))
    if settings.second_pass_engine in ("torch", "vllm"):
        return
    try:
        click.echo(export_second_pass(settings))
    except ExportFailed as error:
        click.echo(f"Not exported, PyTorch will run the second pass: {error}", err=True)
