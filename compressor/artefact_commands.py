"""`precis adapters`: shows and checks a folder of trained parts without loading a model.

Knows nothing of the service.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from safetensors import SafetensorError, safe_open

from compressor import artefact, provenance
from compressor.adapters import ADAPTERS
from compressor.errors import CompressorError, ModelFilesInvalid, ModelFilesMissing
from compressor.ports import Mode
from compressor.production import base_name
from compressor.summary_config import SummaryConfig

MODE_OF_ADAPTERS: Mode = "adapters"
_FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)
_CODEC_SUFFIXES = (".faiss", ".npz")  # trained state of a token codec, which the file is called after
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")  # opening one runs what is written in it


@click.group()
def adapters() -> None:
    """Look at a folder of trained parts: both adapters, summary tokens, retrieval head."""


@adapters.command()
@click.argument("folder", type=_FOLDER)
def show(folder: Path) -> None:
    """What FOLDER holds, for which base model, its mode, budgets and fingerprint."""
    try:
        config, runs = SummaryConfig.load(folder), provenance.recipes(folder)
        files = {path: sum(1 for _ in tensors(path)) for path in weight_files(folder)}
    except CompressorError as error:
        raise click.ClickException(str(error)) from error
    table = Table("part", "tensors", "bytes", title=str(folder))
    for path, count in files.items():
        table.add_row(path.relative_to(folder).as_posix(), str(count), f"{path.stat().st_size:,}")
    Console().print(table)
    codec = next((path.stem for path in sorted(folder.iterdir()) if path.suffix in _CODEC_SUFFIXES), None)
    kept = " or ".join(map(str, config.kept_counts))
    click.echo(f"Mode: {MODE_OF_ADAPTERS}. Summary tokens of an image that may be kept: {kept}.")
    click.echo(f"Token codec: {codec or 'none of its own'}.")
    for run in runs:
        click.echo(
            f"Trained for {run['steps']} steps of {run['batch_size']} images; the recipe is in {provenance.RECIPES}."
        )
    told = {"fingerprint": artefact.fingerprint(folder), "mode": MODE_OF_ADAPTERS, "codec": codec, "recipes": runs}
    click.echo(json.dumps({**told, **asdict(config)}))


@adapters.command()
@click.argument("folder", type=_FOLDER)
@click.option("--model", type=_FOLDER, help="Folder of the LVLM that the adapters should belong to.")
def verify(folder: Path, model: Path | None) -> None:
    """Check that FOLDER is complete, readable and free of pickles, and fits the LVLM where one is given."""
    try:
        check(folder, model)
    except CompressorError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{folder}: sound, fingerprint {artefact.fingerprint(folder)}")


def check(folder: Path, model: Path | None = None) -> None:
    """Raises ModelFilesMissing or ModelFilesInvalid unless the folder can be used."""
    config = SummaryConfig.load(folder)
    provenance.recipes(folder)
    pickles = sorted(path.name for pattern in _PICKLES for path in folder.rglob(pattern))
    if pickles:
        raise ModelFilesInvalid(f"{folder} holds {', '.join(pickles)}: pickles can run code and are never read")
    for name in ADAPTERS:
        settings = _json(folder / name / "adapter_config.json")
        ranks = {shape[0] for key, shape in tensors(folder / name / "adapter_model.safetensors") if ".lora_A." in key}
        if settings.get("r") != config.lora_rank or ranks != {config.lora_rank}:
            raise ModelFilesInvalid(f"{folder / name} is not of rank {config.lora_rank}, as summary.json says")
    shapes = dict(tensors(folder / "summary.safetensors"))
    rows = shapes.get("embedding.summary", (0,))[0]
    if rows != config.token_count:
        raise ModelFilesInvalid(f"{folder} holds {rows} summary tokens, not {config.token_count}")
    if model is not None and config.base_model != (found := base_name(model)):
        raise ModelFilesInvalid(f"{folder} belongs to the base model {config.base_model}, not to {found}")


def weight_files(folder: Path) -> list[Path]:
    """All safetensors files in the folder."""
    return sorted(folder.rglob("*.safetensors"))


def tensors(path: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and shape of each tensor in a file, all of it read. Raises ModelFilesMissing or ModelFilesInvalid."""
    try:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118
                tensor = file.get_tensor(name)
                if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
                    raise ModelFilesInvalid(f"{path}: {name} holds NaN or infinity")
                yield name, tuple(tensor.shape)
    except FileNotFoundError as error:
        raise ModelFilesMissing(f"{path} is missing") from error
    except (SafetensorError, OSError) as error:
        raise ModelFilesInvalid(f"{path} cannot be read: {error}") from error


def _json(path: Path) -> dict[str, object]:
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise ModelFilesMissing(f"{path} is missing") from error
    except ValueError as error:
        raise ModelFilesInvalid(f"{path} is not JSON") from error
    return found if isinstance(found, dict) else {}
