"""Commands around the training data: `precis data fetch|prepare|sheet|questions`."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import click
from PIL import Image, ImageDraw

from compressor.default_model.data import cutouts, question_folder
from compressor.default_model.data.cutouts import SOURCES, fetch, folders
from compressor.default_model.data.questions import questions
from compressor.default_model.data.scenes import LONGEST_PX, compose
from compressor.errors import DataInvalid, ToolMissing

_FOLDER = click.Path(path_type=Path, file_okay=False)


@click.group()
def main() -> None:
    """Cut-outs for composed scenes, and questions about photographs."""


@main.command("fetch")
@click.argument("collections", type=_FOLDER)
def fetch_command(collections: Path) -> None:
    """Download the collections of pictures into COLLECTIONS (about 300 MB)."""
    for line in _checked(fetch(collections)):
        click.echo(line)


@main.command()
@click.argument("target", type=_FOLDER)
@click.option(
    "--collections",
    type=_FOLDER,
    help="The folder that `fetch` filled.",
)
@click.option(
    "--source",
    "sources",
    multiple=True,
    metavar="NAME=FOLDER",
    help=f"A folder of one collection: {', '.join(SOURCES)}.",
)
@click.option(
    "--log",
    type=click.File("w"),
    help="A line for each picture: its name, or why it was left out.",
)
def prepare(
    target: Path,
    collections: Path | None,
    sources: tuple[str, ...],
    log: TextIO | None,
) -> None:
    """Make the folder of named cut-outs TARGET (about a minute)."""
    chosen = folders(collections) if collections else {}
    for entry in sources:
        name, equals, folder = entry.partition("=")
        if not equals:
            raise click.UsageError(f"--source {entry}: NAME=FOLDER expected")
        # Replaces the fetched folder of the same collection.
        chosen[name] = Path(folder)
    if not chosen:
        raise click.UsageError("give --collections or --source")
    for line in _checked(cutouts.prepare(chosen, target)):
        if log:
            log.write(line + "\n")
    objects = cutouts.load(target)
    held_out = objects.held_out().names
    click.echo(
        f"{len(objects.cutouts)} objects, {len(objects.names)} names, {len(held_out)} held out"
    )


@main.command("questions")
@click.argument("index", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("target", type=_FOLDER)
@click.option("--seed", default=0, show_default=True)
@click.option(
    "--only",
    type=click.Choice(["captions", "labels"]),
    help="Leave out photographs that have no captions, or no label.",
)
def questions_command(
    index: Path, target: Path, seed: int, only: question_folder.Only | None
) -> None:
    """Make questions from the captions or labels in INDEX (its images lie beside it in images/).

    TARGET becomes a folder for `precis train lvlm --data`.
    """
    try:
        kinds = question_folder.write(index, target, seed, only)
    except DataInvalid as error:
        raise click.ClickException(str(error)) from error
    for kind, count in kinds.most_common():
        click.echo(f"{kind:20} {count:7}")


@main.command()
@click.argument("prepared", type=_FOLDER)
@click.argument("output", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--seed", default=0, show_default=True)
@click.option("--scenes", "count", default=20, show_default=True)
def sheet(
    prepared: Path,
    output: Path,
    seed: int,
    count: int,
) -> None:
    """Draw scenes with all their questions into one picture, to look at."""
    try:
        pool = cutouts.load(prepared).training()
    except DataInvalid as error:
        raise click.ClickException(str(error)) from error
    columns, lines, line_px = 5, 16, 12
    rows = math.ceil(count / columns)
    cell_height = LONGEST_PX + lines * line_px
    page = Image.new(
        "RGB",
        (columns * LONGEST_PX, rows * cell_height),
        "white",
    )
    draw = ImageDraw.Draw(page)
    for number in range(count):
        # A generator for each scene: a larger sheet begins with the scenes of a smaller one.
        rng = random.Random(seed + number)
        scene = compose(rng, pool)
        left = number % columns * LONGEST_PX
        top = number // columns * cell_height
        page.paste(scene.image, (left, top))
        for line, qa in enumerate(questions(scene, rng, pool)[:lines]):
            place = (left, top + LONGEST_PX + line * line_px)
            draw.text(place, f"{qa.question} {qa.answer}"[:80], fill="black")
    page.save(output)


def _checked(lines: Iterator[str]) -> Iterator[str]:
    try:
        yield from lines
    except (DataInvalid, ToolMissing) as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
