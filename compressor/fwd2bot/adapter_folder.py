"""A folder of trained parts: both adapters in PEFT's layout, what belongs to neither, settings.

All of it is safetensors and JSON:

    summary.json                       SummaryConfig
    summary.safetensors                summary tokens, readout, retrieval head
    first_pass/ second_pass/           adapter_config.json, adapter_model.safetensors;
                                       or shared/, or neither (SummaryConfig.adapters)
    recipes.json README.md             how they came to be (provenance.py)
    base.json base_*.safetensors       only with the default model: its base's parts
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
import torch
from peft import get_peft_model_state_dict, set_peft_model_state_dict
from rich.console import Console
from rich.table import Table
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from compressor.errors import CompressorError, ModelFilesInvalid, ModelFilesMissing
from compressor.fwd2bot.adapters import adapter_names
from compressor.fwd2bot.config import SummaryConfig
from compressor.fwd2bot.fingerprint import fingerprint
from compressor.fwd2bot.model import SummaryLvlm
from compressor.ports import Mode

# A hash of whole files would read all weights once more at each start.
_HASHED_BYTES = (
    1 << 20
)  # of each weight file: the table of its tensors and the first of them


def base_name(folder: Path) -> str:
    """The name by which adapters remember their base model: its type and a hash.

    The hash covers the configuration, and the size and the first mebibyte of each weight file.
    Raises ModelFilesMissing or ModelFilesInvalid.
    """
    try:
        text = (folder / "config.json").read_bytes()
        kind = json.loads(text)["model_type"]
        digest = hashlib.sha256(text)
        files = sorted(folder.glob("*.safetensors"))
        for path in files:
            with path.open("rb") as file:
                digest.update(
                    f"{path.name} {path.stat().st_size} ".encode()
                    + file.read(_HASHED_BYTES)
                )
    except FileNotFoundError as error:
        raise ModelFilesMissing(f"no model in {folder}: {error}") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelFilesInvalid(
            f"{folder / 'config.json'} is not a model's configuration"
        ) from error
    if not files:
        raise ModelFilesMissing(
            f"no safetensors files in {folder}; other formats are not read"
        )
    return f"{kind}@{digest.hexdigest()[:16]}"


_OWN_PARTS = ("embedding.summary", "readout.", "head.")


def save(model: SummaryLvlm, folder: Path) -> None:
    """Writes the adapters (float16) and the model's own trained parts (float32)."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in adapter_names(model.config.adapters):
        state = get_peft_model_state_dict(model.lvlm, adapter_name=name)
        (folder / name).mkdir(exist_ok=True)
        # Resuming from float16 loses no training: a run keeps float32 in its checkpoint.
        halves = {
            key: value.to(torch.float16).contiguous() for key, value in state.items()
        }
        save_file(halves, folder / name / "adapter_model.safetensors")
        settings = model.lvlm.peft_config[name].to_dict()
        # PEFT keeps a set, whose order would change the bytes and so the fingerprint.
        settings["target_modules"] = sorted(settings["target_modules"])
        # As PEFT's own `save_pretrained` writes it: PEFT then loads the adapter frozen.
        settings["inference_mode"] = True
        # A path on the machine that trained. The base's name stands in the model's own settings.
        settings["base_model_name_or_path"] = None
        readable = {key: value for key, value in settings.items() if _is_json(value)}
        (folder / name / "adapter_config.json").write_text(
            json.dumps(readable, indent=2, sort_keys=True) + "\n"
        )
    own = {
        key: value
        for key, value in model.state_dict().items()
        if key.startswith(_OWN_PARTS)
    }
    save_file(
        {
            # safetensors refuses tensors that share memory or are not contiguous.
            key: value.contiguous().clone()
            for key, value in own.items()
        },
        folder / "summary.safetensors",
    )
    model.config.save(folder)


def load(model: SummaryLvlm, folder: Path) -> None:
    """Loads what `save` wrote, budgets too. Raises ModelFilesMissing or ModelFilesInvalid."""
    config = SummaryConfig.load(folder)
    # Budgets may differ: they change what training draws, never the shape of a weight.
    if replace(config, budgets=()) != replace(model.config, budgets=()):
        raise ModelFilesInvalid(
            f"{folder} was trained with other settings or for another base model"
        )
    try:
        for name in adapter_names(config.adapters):
            state = load_file(folder / name / "adapter_model.safetensors")
            # Adapters train in float32, whatever the base model's dtype and the file's.
            floats = {key: value.float() for key, value in state.items()}
            expected = get_peft_model_state_dict(model.lvlm, adapter_name=name)
            # PEFT skips names that do not fit, and part of the adapter would stay untrained.
            if set(state) != set(expected):
                raise ModelFilesInvalid(f"{folder / name} does not fit the base model")
            set_peft_model_state_dict(model.lvlm, floats, adapter_name=name)
        own = load_file(folder / "summary.safetensors")
        names = {name for name in model.state_dict() if name.startswith(_OWN_PARTS)}
        different = names ^ set(own)
        if different:
            raise ModelFilesInvalid(
                f"{folder / 'summary.safetensors'} does not fit: {', '.join(sorted(different))}"
            )
        # Not strict: the base model's weights are not in the folder.
        model.load_state_dict(own, strict=False)
        model.config = config
    except FileNotFoundError as error:
        raise ModelFilesMissing(f"{folder} is not complete: {error}") from error
    except (SafetensorError, RuntimeError, ValueError) as error:
        raise ModelFilesInvalid(f"{folder} does not fit the model: {error}") from error


def _is_json(value: object) -> bool:
    try:
        json.dumps(value)
    except TypeError:
        return False
    return True


# Provenance, beside the parts: `recipes.json`, and a model card unless somebody wrote one by hand.
# Neither file decides tokens or embeddings, so neither changes a fingerprint.


RECIPES, CARD = "recipes.json", "README.md"
# Fields of a recipe that a card and `precis adapters show` print.
_PRINTED = ("steps", "batch_size", "second_pass_input")
_MARK = (
    "<!-- Written by `precis train`, anew after each run; a card without this line stays as it is."
    " -->"
)


def record(folder: Path, config: SummaryConfig, recipe: Mapping[str, Any]) -> None:
    """Notes a finished run over the parts in the folder, and writes the card.

    A run that was resumed for more steps is one run. Raises OSError, ModelFilesInvalid.
    """
    runs = recipes(folder)
    run: dict[str, Any] = json.loads(
        json.dumps(recipe)
    )  # tuples as the file will have them
    if runs and {**runs[-1], "steps": 0} == {**run, "steps": 0}:
        del runs[-1]
    runs.append(run)
    (folder / RECIPES).write_text(
        json.dumps({"format_version": 1, "runs": runs}, indent=2) + "\n",
        encoding="utf-8",
    )
    card = folder / CARD
    if not card.exists() or _MARK in card.read_text(encoding="utf-8"):
        card.write_text(_card(config, runs, fingerprint(folder)), encoding="utf-8")


def recipes(folder: Path) -> list[dict[str, Any]]:
    """All fields of the recipe of each run over the parts, in order; [] if there is no record.

    Raises ModelFilesInvalid.
    """
    try:
        record = json.loads((folder / RECIPES).read_text(encoding="utf-8"))
        if record["format_version"] != 1:
            raise ModelFilesInvalid(
                f"{folder / RECIPES} is of a version that this program does not know"
            )
        runs = [_with_new_names(run) for run in record["runs"]]
        if not all(set(_PRINTED) <= set(run) for run in runs):
            raise ModelFilesInvalid(
                f"{folder / RECIPES} has runs without {', '.join(_PRINTED)}"
            )
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError) as error:
        raise ModelFilesInvalid(f"{folder / RECIPES} is no list of recipes") from error
    return runs


def _with_new_names(run: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe's fields under their present names: the first release said `reads`."""
    new_names = {"reads": "second_pass_input"}
    return {new_names.get(name, name): value for name, value in run.items()}


def _card(config: SummaryConfig, runs: list[dict[str, Any]], fingerprint: str) -> str:
    kept = " or ".join(map(str, config.kept_counts))
    steps = "\n".join(
        f"| {number} | {run['steps']} | {run['batch_size']} | {run['second_pass_input']} |"
        for number, run in enumerate(runs, 1)
    )
    return f"""---
library_name: peft
tags: [precis, fwd2bot]
---
{_MARK}

# Adapters for {config.base_model}

{_adapters(config)}, summary tokens and a
retrieval head for Précis, after Fwd2Bot (arXiv 2503.21757): an image goes through the base model
once and is kept as summary tokens.

| | |
|---|---|
| base model | {config.base_model} (type, and a hash of its configuration and weight files) |
| summary tokens that may be kept of an image | {kept} |
| embedding | {config.embedding_size} values |
| fingerprint | {fingerprint} |

| run | steps | images a step | the second pass reads |
|---|---|---|---|
{steps}

Every field of their recipes is in `{RECIPES}`. Training does not know on what data the parts were
trained, under which licence they may be used, what they are good for, nor their figures
(`precis score`): whoever shares them should say so.
"""


def _adapters(config: SummaryConfig) -> str:
    names = adapter_names(config.adapters)
    if not names:
        return "No adapters"
    noun = "One adapter" if len(names) == 1 else "Two adapters"
    listed = ", ".join(f"`{name}`" for name in names)
    return f"{noun} of rank {config.lora_rank} ({listed})"


# `precis adapters`: shows and checks a folder of trained parts without loading a model.


MODE_OF_ADAPTERS: Mode = "adapters"
_FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)
# Trained state of a token codec; the file is called after the codec.
_CODEC_SUFFIXES = (".faiss", ".npz")
_PICKLES = (
    "*.bin",
    "*.pt",
    "*.pth",
    "*.pkl",
    "*.ckpt",
)  # opening one runs what is written in it


@click.group()
def adapters() -> None:
    """Look at a folder of trained parts: both adapters, summary tokens, retrieval head."""


@adapters.command()
@click.argument("folder", type=_FOLDER)
def show(folder: Path) -> None:
    """What FOLDER holds, for which base model, its mode, budgets and fingerprint."""
    try:
        config, runs = SummaryConfig.load(folder), recipes(folder)
        files = {path: sum(1 for _ in tensors(path)) for path in weight_files(folder)}
    except CompressorError as error:
        raise click.ClickException(str(error)) from error
    table = Table("part", "tensors", "bytes", title=str(folder))
    for path, count in files.items():
        table.add_row(
            path.relative_to(folder).as_posix(), str(count), f"{path.stat().st_size:,}"
        )
    Console().print(table)
    codec = next(
        (
            path.stem
            for path in sorted(folder.iterdir())
            if path.suffix in _CODEC_SUFFIXES
        ),
        None,
    )
    kept = " or ".join(map(str, config.kept_counts))
    click.echo(
        f"Mode: {MODE_OF_ADAPTERS}. Summary tokens of an image that may be kept: {kept}."
    )
    click.echo(f"Token codec: {codec or 'none of its own'}.")
    for run in runs:
        extent = f"{run['steps']} steps of {run['batch_size']} images"
        click.echo(f"Trained for {extent}; the recipe is in {RECIPES}.")
    summary = {
        "fingerprint": fingerprint(folder),
        "mode": MODE_OF_ADAPTERS,
        "codec": codec,
        "recipes": runs,
    }
    click.echo(json.dumps({**summary, **asdict(config)}))


@adapters.command()
@click.argument("folder", type=_FOLDER)
@click.option(
    "--model",
    type=_FOLDER,
    help="Folder of the LVLM that the adapters should belong to.",
)
def verify(folder: Path, model: Path | None) -> None:
    """Check that FOLDER is complete, readable and free of pickles, and fits the LVLM where one is
    given.
    """
    try:
        check(folder, model)
    except CompressorError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{folder}: sound, fingerprint {fingerprint(folder)}")


def check(folder: Path, model: Path | None = None) -> None:
    """Raises ModelFilesMissing or ModelFilesInvalid unless the folder can be used."""
    config = SummaryConfig.load(folder)
    recipes(folder)
    # Refused although nothing here opens them: folders are passed on to programs that do.
    pickles = sorted(
        path.name for pattern in _PICKLES for path in folder.rglob(pattern)
    )
    if pickles:
        raise ModelFilesInvalid(
            f"{folder} holds {', '.join(pickles)}: pickles can run code and are never read"
        )
    for name in adapter_names(config.adapters):
        settings = _json(folder / name / "adapter_config.json")
        # From the tensors, not the settings alone: files of two runs may lie in one folder.
        ranks = {
            shape[0]
            for key, shape in tensors(folder / name / "adapter_model.safetensors")
            if ".lora_A." in key
        }
        if settings.get("r") != config.lora_rank or ranks != {config.lora_rank}:
            raise ModelFilesInvalid(
                f"{folder / name} is not of rank {config.lora_rank}, as summary.json says"
            )
    shapes = dict(tensors(folder / "summary.safetensors"))
    rows = shapes.get("embedding.summary", (0,))[0]
    if rows != config.token_count:
        raise ModelFilesInvalid(
            f"{folder} holds {rows} summary tokens, not {config.token_count}"
        )
    if model is None:
        return
    base = base_name(model)
    if config.base_model != base:
        raise ModelFilesInvalid(
            f"{folder} belongs to the base model {config.base_model}, not to {base}"
        )


def weight_files(folder: Path) -> list[Path]:
    """All safetensors files in the folder."""
    return sorted(folder.rglob("*.safetensors"))


def tensors(path: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and shape of each tensor in a file, all of it read.

    Raises ModelFilesMissing or ModelFilesInvalid.
    """
    try:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118
                # Read whole: a file's table of tensors says nothing of NaN among its values.
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
        values = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise ModelFilesMissing(f"{path} is missing") from error
    except ValueError as error:
        raise ModelFilesInvalid(f"{path} is not JSON") from error
    return values if isinstance(values, dict) else {}
