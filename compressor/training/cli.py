"""`precis train lvlm`: adapters for any LVLM in a folder, by double-forward steps over people's own
data.

Knows nothing of the default model.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click
from rich.progress import Progress, TextColumn, TimeRemainingColumn

from compressor import plots
from compressor.errors import CompressorError, ModelFilesInvalid
from compressor.fwd2bot import adapter_folder
from compressor.fwd2bot.adapter_folder import base_name
from compressor.fwd2bot.config import FILE_NAME, SummaryConfig
from compressor.fwd2bot.load import assemble, settings_of
from compressor.fwd2bot.model import SummaryLvlm
from compressor.fwd2bot.placement import Placement
from compressor.training import trainer
from compressor.training.auxiliary import NO_AUXILIARY, Auxiliary
from compressor.training.config import TrainConfig
from compressor.training.datasets import Blend, read
from compressor.training.distributed import SINGLE, Distributed, shard_frozen_base

# A run as the command line shows it: a progress bar with the losses, then the plot and the trained
# parts.


def train_with_progress(
    model: SummaryLvlm,
    data: trainer.Samples,
    config: TrainConfig,
    run: Path,
    adapters: Path,
    world: Distributed = SINGLE,
    auxiliary: Auxiliary = NO_AUXILIARY,
) -> None:
    """Runs or resumes with a progress bar, then writes plot and trained parts.

    Raises what `trainer.train` raises.
    """
    if config.fsdp:
        shard_frozen_base(model, world)
    columns = (
        *Progress.get_default_columns()[:-1],
        TimeRemainingColumn(),
        TextColumn("{task.fields[losses]}"),
    )
    with Progress(*columns, disable=world.rank > 0) as progress:
        task = progress.add_task("double-forward steps", total=config.steps, losses="")
        for step, losses in trainer.train(model, data, config, run, world, auxiliary):
            text = (
                f"autoregressive {losses.autoregressive:.3f} contrastive {losses.contrastive:.3f}"
            )
            if auxiliary.weight:
                text += f" auxiliary {losses.auxiliary:.3f}"
            progress.update(task, completed=step + 1, losses=text)
    if world.rank == 0:
        plots.losses(run / "log.jsonl", run / "losses.png")
        adapter_folder.save(model, adapters)
        adapter_folder.record(adapters, model.config, asdict(config))


_TOKENS = 16
_FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command()
@click.option(
    "--model", "folder", type=_FOLDER, required=True, help="The LVLM as Hugging Face saves it."
)
@click.option(
    "--data",
    "sources",
    type=click.Path(path_type=Path, exists=True),
    multiple=True,
    required=True,
    help="JSON file or folder; may be given several times.",
)
@click.option(
    "--weight",
    "weights",
    type=float,
    multiple=True,
    help="Share of a --data, in their order; else by size.",
)
@click.option(
    "--images", type=_FOLDER, default=Path(), help="Where the image names of a JSON file lead from."
)
@click.option(
    "--adapters",
    type=_FOLDER,
    required=True,
    help="Folder of the trained parts; goes on from what is there.",
)
@click.option(
    "--run",
    type=_FOLDER,
    required=True,
    help="Folder of the log and the checkpoint; resumes what is there.",
)
@click.option(
    "--recipe", "recipe_file", type=click.Path(path_type=Path, dir_okay=False), help="TOML file."
)
@click.option(
    "--summary-tokens", type=click.IntRange(min=1), help=f"K, of new adapters. [default: {_TOKENS}]"
)
def lvlm(
    folder: Path,
    sources: tuple[Path, ...],
    weights: tuple[float, ...],
    images: Path,
    adapters: Path,
    run: Path,
    recipe_file: Path | None,
    summary_tokens: int | None,
) -> None:
    """Both adapters of the LVLM in a folder, over LLaVA-instruct JSON, index.jsonl, WebDataset or
    Parquet shards.
    """
    try:
        world = (
            Distributed.from_environment()
        )  # before anything is put on a device: each process has its own
        config = TrainConfig.read(recipe_file) if recipe_file else TrainConfig()
        found = [read(source, images, config.seed) for source in sources]
        for source, each in zip(sources, found, strict=True):
            click.echo(f"{source.name}: {len(each)} samples; left out: {each.skipped or 'none'}")
        samples = Blend(found, weights, config.seed)
        name = base_name(folder)
        known = (adapters / FILE_NAME).exists()
        summary_config = (
            settings_of(adapters, name)
            if known
            else SummaryConfig(name, token_count=summary_tokens or _TOKENS)
        )
        if summary_tokens not in (None, summary_config.token_count):
            raise ModelFilesInvalid(
                f"{adapters} holds {summary_config.token_count} summary tokens, not {summary_tokens}"
            )
        # FSDP shards the weights from the CPU to the ranks' devices.
        placement = Placement("cpu") if config.fsdp else Placement()
        model = assemble(folder, summary_config, placement=placement, training=True)
        if known:
            adapter_folder.load(model, adapters)
        train_with_progress(model, samples, config, run, adapters, world)
    except CompressorError as error:
        raise click.ClickException(str(error)) from error
