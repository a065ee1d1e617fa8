"""`precis study`: runs a study and writes its table and plot."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress

from compressor.errors import CompressorError, DataInvalid, TrainingStopped
from compressor.study import page as study_page
from compressor.study.ablation import OutOfTime, Record, Run, Study, runs_of
from compressor.study.cells import CELLS
from compressor.study.measure import drawn_questions
from compressor.training.config import TrainConfig
from compressor.training.datasets import read

_FOLDER = click.Path(path_type=Path, file_okay=False)
_EXISTING = click.Path(path_type=Path, exists=True)
_FILE = click.Path(path_type=Path, dir_okay=False)
_PAGE = "ablation.md"


@click.group()
def study() -> None:
    """Compare ways of training on the same data with the same budget."""


@study.command()
@click.option("--model", type=_FOLDER, required=True, help="The LVLM.")
@click.option(
    "--data",
    type=_EXISTING,
    multiple=True,
    required=True,
    help="JSON file or folder of samples to train on; may be given several times.",
)
@click.option(
    "--weight",
    "weights",
    type=float,
    multiple=True,
    help="Share of a --data, in their order; by their sizes if left out.",
)
@click.option(
    "--images",
    type=_FOLDER,
    default=Path(),
    help="Folder of the images that a JSON file names.",
)
@click.option(
    "--held-out",
    type=_EXISTING,
    required=True,
    help="Samples to measure on, in any format of --data.",
)
@click.option(
    "--run",
    "folder",
    type=_FOLDER,
    required=True,
    help="Folder of all runs; the study in it goes on.",
)
@click.option(
    "--recipe",
    "recipe_file",
    type=_FILE,
    required=True,
    help="TOML file of what all cells have in common.",
)
@click.option("--seeds", type=click.IntRange(min=1), default=2, show_default=True)
@click.option(
    "--budget-steps",
    type=click.IntRange(min=1),
    help="Training steps of each run. [default: the recipe's]",
)
@click.option(
    "--budget-seconds",
    type=click.FloatRange(min=0),
    help="Begin no training step after this time; the same command goes on later.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=2),
    default=200,
    show_default=True,
    help="Held-out images.",
)
@click.option(
    "--questions",
    type=click.IntRange(min=1),
    default=4,
    show_default=True,
    help="Questions asked about each of them.",
)
@click.option(
    "--cell",
    "names",
    type=click.Choice([cell.name for cell in CELLS]),
    multiple=True,
    help="Run these cells only; the table has all that are finished.",
)
@click.option(
    "--page",
    type=_FILE,
    help=f"Markdown page of the table, beside it the plot. [default: {_PAGE} in --run]",
)
def ablation(
    model: Path,
    data: tuple[Path, ...],
    weights: tuple[float, ...],
    images: Path,
    held_out: Path,
    folder: Path,
    recipe_file: Path,
    seeds: int,
    budget_steps: int | None,
    budget_seconds: float | None,
    limit: int,
    questions: int,
    names: tuple[str, ...],
    page: Path | None,
) -> None:
    """The choices of Fwd2Bot one by one, and baselines: equal budgets, several seeds.

    Finished runs are skipped and an interrupted one is resumed.
    """
    started = time.monotonic()
    deadline = math.inf if budget_seconds is None else started + budget_seconds
    page = page or folder / _PAGE
    try:
        study_page.check(page)
        recipe = TrainConfig.read(recipe_file)
        if budget_steps is not None:
            recipe = replace(recipe, steps=budget_steps)
        same = {path.resolve() for path in data} & {held_out.resolve()}
        if same:
            raise DataInvalid(f"{held_out} is held out and cannot be trained on")
        entries = read(held_out, images).entries[:limit]
        common = Study(
            model,
            [read(path, images) for path in data],
            weights,
            drawn_questions(entries, questions),
            recipe,
            folder,
        )
        chosen = [cell for cell in CELLS if not names or cell.name in names]
        stopped = _finish(runs_of(common, chosen, seeds), deadline)
        records = _records(runs_of(common, CELLS, seeds))
        folder.mkdir(parents=True, exist_ok=True)
        study_page.write(page, CELLS, records)
    except CompressorError as error:
        raise click.ClickException(str(error)) from error
    unfinished = seeds * len(CELLS) - len(records)
    click.echo(f"{page}: {len(records)} runs; {unfinished} are not finished.")
    if stopped:
        raise click.ClickException("; ".join(stopped))


def _finish(runs: Sequence[Run], deadline: float) -> list[str]:
    """Finishes the runs that are not, while there is time; says which ones training stopped."""
    stopped = []
    for run in runs:
        name = f"{run.cell.name}, seed {run.seed}"
        if run.record() is not None:
            click.echo(f"{name}: finished before")
            continue
        click.echo(name)
        try:
            _train(run, deadline)
        except OutOfTime:
            click.echo("The time is over; the same command goes on.")
            break
        # A cell that diverges is no reason to lose the others.
        except TrainingStopped as error:
            stopped.append(f"{name}: {error}")
    return stopped


def _train(run: Run, deadline: float) -> None:
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("steps", total=run.config.steps)
        for log in run.finish(deadline):
            progress.update(task, completed=log.step + 1)


def _records(runs: Sequence[Run]) -> list[Record]:
    records = [run.record() for run in runs]
    return [record for record in records if record is not None]
