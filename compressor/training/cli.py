"""`precis train base`, `lvlm` and `head`: tune an LVLM, train adapters for it, fit their head."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import click
import numpy as np
from rich.console import Console
from rich.progress import Progress, TextColumn, TimeRemainingColumn, track

from compressor import plots
from compressor.errors import CompressorError, ModelFilesInvalid, RecipeInvalid
from compressor.fwd2bot import adapter_folder
from compressor.fwd2bot.adapter_folder import base_name
from compressor.fwd2bot.config import FILE_NAME, SummaryConfig
from compressor.fwd2bot.load import assemble, settings_of
from compressor.fwd2bot.model import SummaryLvlm
from compressor.fwd2bot.placement import Placement
from compressor.training import base_parts, trainer
from compressor.training.config import TrainConfig
from compressor.training.datasets import Dataset, Entry, read
from compressor.training.distributed import SINGLE, Distributed, shard_frozen_base
from compressor.training.head_fitting import (
    HeadFit,
    captioned,
    first_pass_states,
    fit,
)
from compressor.training.step import forward_dtype
from compressor.training.stream import Blend, Role, Samples
from compressor.training.trainer import StepLog


def train_with_progress(
    model: SummaryLvlm,
    data: Samples,
    config: TrainConfig,
    run: Path,
    adapters: Path,
    world: Distributed = SINGLE,
    *,
    captions: Samples | None = None,
    held_out: Sequence[Blend] = (),
) -> None:
    """Runs or resumes with a progress bar, then writes plot and adapters.

    Raises what `trainer.train` raises.
    """
    run_with_progress(
        model, data, config, run, world, captions=captions, held_out=held_out
    )
    # What is trained is whole and equal on every rank, also with FSDP.
    if world.rank > 0:
        return
    adapter_folder.save(model, adapters)
    # After the parts, since the card names the fingerprint of the files just written.
    adapter_folder.record(adapters, model.config, asdict(config))


def run_with_progress(
    model: SummaryLvlm,
    data: Samples,
    config: TrainConfig,
    run: Path,
    world: Distributed = SINGLE,
    *,
    captions: Samples | None = None,
    held_out: Sequence[Blend] = (),
) -> None:
    """Runs or resumes with a progress bar, then writes the plot of the losses.

    Raises what `trainer.train` raises.
    """
    if config.fsdp:
        shard_frozen_base(model, world)
    columns = (
        *Progress.get_default_columns()[:-1],
        TimeRemainingColumn(),
        TextColumn("{task.fields[losses]}"),
    )
    unused: Counter[str] = Counter()
    # One bar for all ranks: theirs would overwrite one another on the same terminal.
    with Progress(*columns, disable=world.rank > 0) as progress:
        task = progress.add_task("double-forward steps", total=config.steps, losses="")
        logs = trainer.train(
            model,
            data,
            config,
            run,
            world,
            captions=captions,
            held_out=held_out,
        )
        for log in logs:
            progress.update(task, completed=log.step + 1, losses=_losses(log))
            unused["truncated"] += log.truncated
            unused["left out"] += log.left_out
            unused["broken"] += log.broken
    if world.rank > 0:
        return
    _report(unused)
    plots.losses(run / "log.jsonl", run / "losses.png")


def _losses(log: StepLog) -> str:
    losses = {
        "autoregressive": log.autoregressive,
        "distillation": log.distillation,
        "contrastive": log.contrastive,
    }
    return " ".join(
        f"{name} {loss:.3f}" for name, loss in losses.items() if loss is not None
    )


def _report(unused: Counter[str]) -> None:
    if unused["truncated"] or unused["left out"]:
        click.echo(
            f"Conversations longer than the context: {unused['truncated']} lost their last turns, "
            f"{unused['left out']} were left out."
        )
    if unused["broken"]:
        click.echo(
            f"Images that could not be read: {unused['broken']}; others took their place."
        )


# The command line


_TOKENS = 16
_FOLDER = click.Path(path_type=Path, file_okay=False)
_DATA = click.Path(path_type=Path, exists=True)
_RECIPE = click.Path(path_type=Path, dir_okay=False)
Command = TypeVar("Command", bound=Callable[..., None])


@dataclass(frozen=True)
class Sources:
    """The samples of a run by what they are for."""

    data: Blend
    captions: Blend | None
    held_out: list[Blend]


def sources_of(
    data: Sequence[Path],
    weights: Sequence[float],
    captions: Sequence[Path],
    images: Path,
    config: TrainConfig,
) -> Sources:
    """Reads the data sets and holds a part out where the recipe asks for it. Raises DataInvalid."""
    # With a caption source of its own the contrastive loss leaves the captions of `data` alone.
    roles: dict[Role, tuple[Sequence[Path], Sequence[float]]] = {
        "answers" if captions else "both": (data, weights)
    }
    if captions:
        roles["captions"] = (captions, ())
    training: list[Blend] = []
    held_out: list[Blend] = []
    for role, (paths, shares) in roles.items():
        parts = [_read(path, images).split(config.eval_share) for path in paths]
        own = [part for part, _ in parts]
        training.append(Blend(own, shares, config.seed, role, augment=config.augment))
        kept = [part for _, part in parts if part.entries]
        if kept:
            # Without the recipe's weights, one a source: a small source may hold nothing out.
            held_out.append(Blend(kept, (), config.seed, role))
    return Sources(training[0], training[1] if captions else None, held_out)


def _read(path: Path, images: Path) -> Dataset:
    dataset = read(path, images)
    skipped = ", ".join(
        f"{count} with {reason}" for reason, count in dataset.skipped.items()
    )
    click.echo(
        f"{path.name}: {len(dataset.entries)} samples; left out: {skipped or 'none'}"
    )
    return dataset


def model_for(
    folder: Path, adapters: Path, config: TrainConfig, summary_tokens: int | None
) -> SummaryLvlm:
    """The LVLM with the adapters in the folder, or with new ones as the recipe has them.

    Raises ModelFilesMissing, ModelFilesInvalid, RecipeInvalid, DeviceUnavailable.
    """
    name = base_name(folder)
    exist = (adapters / FILE_NAME).exists()
    if exist:
        summary_config = settings_of(adapters, name)
        config.check_adapters(summary_config)
    else:
        tokens = summary_tokens or config.token_count or _TOKENS
        summary_config = config.summary_config(SummaryConfig(name, token_count=tokens))
    if summary_tokens not in (None, summary_config.token_count):
        holder = adapters if exist else "the recipe"
        raise ModelFilesInvalid(
            f"{holder} has {summary_config.token_count} summary tokens, not {summary_tokens}"
        )
    placement = Placement(dtype=config.dtype)
    if config.fsdp:
        # FSDP shards the weights from the CPU to the ranks' devices.
        device, _ = placement.resolve(training=True)
        dtype = str(forward_dtype(config.dtype, device)).removeprefix("torch.")
        placement = Placement("cpu", dtype)
    model = assemble(folder, summary_config, placement=placement, training=True)
    if exist:
        adapter_folder.load(model, adapters)
    return model


def base_to_tune(folder: Path, parts: Path, config: TrainConfig) -> SummaryLvlm:
    """The LVLM in the folder with the parts tuned so far, ready to be tuned.

    Raises ModelFilesMissing, ModelFilesInvalid, RecipeInvalid, DeviceUnavailable.
    """
    if not config.base_lr:
        raise RecipeInvalid("tuning a base model needs base_lr and base_modules")
    name = base_name(folder)
    # Its summary tokens and first-pass adapter are never used: nothing of them is trained.
    settings = config.summary_config(SummaryConfig(name, token_count=1))
    placement = Placement(dtype=config.dtype)
    model = assemble(folder, settings, placement=placement, training=True)
    base_parts.make_trainable(model, config.base_modules)
    if (parts / base_parts.FILE_NAME).exists():
        base_parts.load(model, parts)
    return model


_model_option = click.option(
    "--model",
    "folder",
    type=_FOLDER,
    required=True,
    help="The LVLM as Hugging Face saves it.",
)


def _training_options(command: Command) -> Command:
    """Decorator: the options of every command that trains an LVLM in a folder."""
    for option in (
        click.option(
            "--run",
            type=_FOLDER,
            required=True,
            help="Folder of the log and the checkpoint; a run in it is resumed.",
        ),
        click.option(
            "--images",
            type=_FOLDER,
            default=Path(),
            help="Folder of the images that a JSON file names.",
        ),
        click.option(
            "--weight",
            "weights",
            type=float,
            multiple=True,
            help="Share of a --data, in their order; by their sizes if left out.",
        ),
        click.option(
            "--data",
            type=_DATA,
            multiple=True,
            required=True,
            help="JSON file or folder of samples; may be given several times.",
        ),
        _model_option,
    ):
        command = option(command)
    return command


@click.command()
@_training_options
@click.option(
    "--parts",
    type=_FOLDER,
    required=True,
    help="Folder of what is learnt; tuning goes on from what it holds.",
)
@click.option(
    "--recipe",
    "recipe_file",
    type=_RECIPE,
    required=True,
    help="TOML file.",
)
@click.option(
    "--merged",
    type=_FOLDER,
    help="Writes the tuned LVLM as a folder of its own here.",
)
def base(
    folder: Path,
    data: tuple[Path, ...],
    weights: tuple[float, ...],
    images: Path,
    parts: Path,
    run: Path,
    recipe_file: Path,
    merged: Path | None,
) -> None:
    """Tune the LVLM in a folder to answer from all its visual tokens.

    A LoRA on the language model, and modules such as the projector in full.
    """
    try:
        world = Distributed.from_environment()
        config = TrainConfig.read(recipe_file)
        sources = sources_of(data, weights, (), images, config)
        model = base_to_tune(folder, parts, config)
        run_with_progress(
            model, sources.data, config, run, world, held_out=sources.held_out
        )
        if world.rank == 0:
            base_parts.save(model, config.base_modules, parts)
            if merged is not None:
                base_parts.write_merged(folder, parts, merged)
    except CompressorError as error:
        raise click.ClickException(str(error)) from error


@click.command()
@_model_option
@click.option(
    "--adapters",
    type=_FOLDER,
    required=True,
    help="Folder of the trained parts; their retrieval head is fitted anew.",
)
@click.option(
    "--data",
    type=_DATA,
    multiple=True,
    required=True,
    help="Folder or shards of captioned images; may be given several times.",
)
@click.option(
    "--limit", type=click.IntRange(min=2), help="Use N images, drawn at random."
)
@click.option(
    "--tokens",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Writes the images' summary tokens here, for `precis train-codec`.",
)
@click.option("--steps", type=click.IntRange(min=1), default=HeadFit.steps)
def head(
    folder: Path,
    adapters: Path,
    data: tuple[Path, ...],
    limit: int | None,
    tokens: Path | None,
    steps: int,
) -> None:
    """Fit a new retrieval head alone, to states of the finished first pass.

    Every batch has hundreds of negatives, for little time: the passes stay as they are.
    """
    try:
        entries: list[Entry] = []
        for path in data:
            entries += _read(path, Path()).entries
        entries = captioned(entries)
        random.Random(HeadFit.seed).shuffle(entries)
        model = assemble(
            folder, settings_of(adapters, base_name(folder)), training=True
        )
        adapter_folder.load(model, adapters)
        states = first_pass_states(model, entries[:limit], _tracked)
        if tokens is not None:
            np.save(tokens, states.tokens.numpy())
        settings = HeadFit(steps=steps)
        loss = fit(model.head, states, model.embedding.weight, settings)
        adapter_folder.save(model, adapters)
        recipe = {"second_pass_input": "", **asdict(settings)}
        adapter_folder.record(adapters, model.config, recipe)
    except CompressorError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"contrastive loss {loss:.3f} over {len(states.images)} images")


def _tracked(steps: Sequence[int]) -> Iterable[int]:
    return track(steps, console=Console(stderr=True))


@click.command()
@_training_options
@click.option(
    "--captions",
    type=_DATA,
    multiple=True,
    help="Captioned images for the contrastive loss alone, in any format of --data.",
)
@click.option(
    "--adapters",
    type=_FOLDER,
    required=True,
    help="Folder of the trained parts; training goes on from those in it.",
)
@click.option(
    "--recipe",
    "recipe_file",
    type=_RECIPE,
    help="TOML file.",
)
@click.option(
    "--summary-tokens",
    type=click.IntRange(min=1),
    help=f"K, of new adapters. [default: {_TOKENS}]",
)
def lvlm(
    folder: Path,
    data: tuple[Path, ...],
    weights: tuple[float, ...],
    captions: tuple[Path, ...],
    images: Path,
    adapters: Path,
    run: Path,
    recipe_file: Path | None,
    summary_tokens: int | None,
) -> None:
    """Train both adapters of the LVLM in a folder.

    Reads LLaVA-instruct JSON, index.jsonl, WebDataset or Parquet shards.
    """
    try:
        # Before anything is put on a device: each process has its own.
        world = Distributed.from_environment()
        # Cheapest first: a mistake in the recipe or the data is found before the model is loaded.
        config = TrainConfig.read(recipe_file) if recipe_file else TrainConfig()
        sources = sources_of(data, weights, captions, images, config)
        model = model_for(folder, adapters, config, summary_tokens)
        train_with_progress(
            model,
            sources.data,
            config,
            run,
            adapters,
            world,
            captions=sources.captions,
            held_out=sources.held_out,
        )
    except CompressorError as error:
        raise click.ClickException(str(error)) from error
