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
from compressor.training import trainer
from compressor.training.config import Recipe
from compressor.training.datasets import Blend, read
from compressor.training.distributed import Processes, shard_base, started

# A run as the command line shows it: a progress bar with the losses, then the plot and the trained
# parts.


def train_shown(
    model: SummaryLvlm,
    data: trainer.Samples,
    recipe: Recipe,
    run: Path,
    caption_words: frozenset[str],
    processes: Processes,
    folder: Path,
) -> None:
    """Runs or resumes, and writes the trained parts into `folder`. Raises what loop.train raises."""
    if recipe.shard_base:
        shard_base(model, processes)
    columns = (
        *Progress.get_default_columns()[:-1],
        TimeRemainingColumn(),
        TextColumn("{task.fields[losses]}"),
    )
    with Progress(*columns, disable=processes.rank > 0) as progress:
        task = progress.add_task("double-forward steps", total=recipe.steps, losses="")
        for step, losses in trainer.train(model, data, recipe, run, caption_words, processes):
            told = f"answers {losses.autoregressive:.3f} contrast {losses.contrastive:.3f}"
            if caption_words:
                told += f" words {losses.words:.3f}"
            progress.update(task, completed=step + 1, losses=told)
    if processes.rank == 0:
        plots.losses(run / "log.jsonl", run / "losses.png")
        adapter_folder.save(model, folder)
        adapter_folder.record(folder, model.config, asdict(recipe))


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
        processes = started()  # before anything is put on a device: each process has its own
        recipe = Recipe.read(recipe_file) if recipe_file else Recipe(cells_kept=0, words_weight=0)
        found = [read(source, images, recipe.seed) for source in sources]
        for source, each in zip(sources, found, strict=True):
            click.echo(f"{source.name}: {len(each)} samples; left out: {each.skipped or 'none'}")
        samples = Blend(found, weights, recipe.seed)
        name = base_name(folder)
        known = (adapters / FILE_NAME).exists()
        config = (
            settings_of(adapters, name)
            if known
            else SummaryConfig(name, token_count=summary_tokens or _TOKENS)
        )
        if summary_tokens not in (None, config.token_count):
            raise ModelFilesInvalid(
                f"{adapters} holds {config.token_count} summary tokens, not {summary_tokens}"
            )
        model = assemble(folder, config, place=not recipe.shard_base)
        if known:
            adapter_folder.load(model, adapters)
        train_shown(model, samples, recipe, run, frozenset(), processes, adapters)
    except CompressorError as error:
        raise click.ClickException(str(error)) from error
