"""`precis score`: public data sets from local files, scored along the path that stored images take.

First pass, token codec, second pass; embeddings in eight bits. Knows nothing of HTTP.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import track
from rich.table import Table

from compressor import plots
from compressor.errors import CompressorError
from compressor.evaluation import scores
from compressor.evaluation.compositional import read_sugarcrepe, read_winoground
from compressor.evaluation.karpathy import read_karpathy
from compressor.evaluation.usable import Usable
from compressor.evaluation.vqa import SCORES, AskedImage, read_answers, read_vqa
from compressor.ports import Generator, SummaryModel
from index.errors import LibraryError
from service.commands.flags import settings_from_flags
from service.errors import ServiceError
from service.model_wrappers import StoredSummaryModel
from service.models import model_factory
from service.runtime import codec_of

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)
_NEW = click.Path(path_type=Path, dir_okay=False)


@dataclass(frozen=True)
class Scored:
    """What all scores share: the model behind its codec, and what to do with the figures."""

    given: dict[str, Any]
    limit: int | None
    plot: Path | None

    @contextmanager
    def model(self) -> Iterator[tuple[SummaryModel, Generator]]:
        """Loads the model of the settings; errors become one line and the exit code 1."""
        try:
            settings = settings_from_flags(self.given)
            models = model_factory(settings.model)(settings)
            codec = codec_of(models, settings)
            click.echo(f"{models.summary.fingerprint[:16]}, tokens through {codec.name}", err=True)
            yield StoredSummaryModel(models.summary, codec), models.generator
        except (CompressorError, LibraryError, ServiceError) as error:
            raise click.ClickException(str(error)) from error

    def tell(self, name: str, found: dict[str, float], usable: Usable, used: int) -> None:
        """Prints a table and, last, one JSON line; draws if asked to."""
        table = Table(
            name, "percent", caption=f"{used} used; left out: {dict(usable.skipped) or 'none'}"
        )
        for figure, percent in found.items():
            table.add_row(figure, f"{percent:.1f}")
        Console().print(table)
        if self.plot:
            plots.figures(
                {figure: {"percent": percent} for figure, percent in found.items()}, self.plot
            )
        click.echo(
            json.dumps({"score": name, "used": used, "skipped": usable.skipped, "percent": found})
        )


@click.group()
@click.option(
    "--limit", type=click.IntRange(min=1), help="Images or questions, the first of the file."
)
@click.option("--plot", type=_NEW, help="Writes the figures as a picture (PNG).")
@click.option("--model", help="Which model. [env: PRECIS_MODEL]")
@click.option("--model-dir", help="Its folder. [env: PRECIS_MODEL_DIR]")
@click.option("--adapters", help="Folder of its trained parts. [env: PRECIS_ADAPTERS]")
@click.option("--codec", help="Token codec; the model's own if left out. [env: PRECIS_CODEC]")
@click.option(
    "--codec-state", help="Trained state of a codec that needs one. [env: PRECIS_CODEC_STATE]"
)
@click.pass_context
def score(context: click.Context, /, limit: int | None, plot: Path | None, **given: Any) -> None:
    """Score the model on a public data set in local files; docs/evaluation.md tells formats and
    figures.
    """
    context.obj = Scored(given, limit, plot)


def _images(command: Any) -> Any:
    return click.option(
        "--images", type=_FOLDER, required=True, help="Where image names lead from."
    )(command)


@score.command()
@click.argument("file", type=_FILE)
@_images
@click.option("--split", default="test", show_default=True)
@click.pass_obj
def karpathy(scored: Scored, file: Path, images: Path, split: str) -> None:
    """Retrieval both ways over Flickr30k or COCO in Karpathy's format."""
    usable = Usable()
    with scored.model() as (model, _):
        found = read_karpathy(file, images, split, usable)[: scored.limit]
        scored.tell("karpathy", scores.captioned(model, found, _track), usable, len(found))


@score.command()
@click.argument("folder", type=_FOLDER)
@_images
@click.pass_obj
def sugarcrepe(scored: Scored, folder: Path, images: Path) -> None:
    """Right caption against wrong one, over SugarCrepe's JSON files."""
    usable = Usable()
    with scored.model() as (model, _):
        found = {
            name: some[: scored.limit]
            for name, some in read_sugarcrepe(folder, images, usable).items()
        }
        used = sum(map(len, found.values()))
        scored.tell("sugarcrepe", scores.sugarcrepe(model, found, _track), usable, used)


@score.command()
@click.argument("file", type=_FILE)
@_images
@click.pass_obj
def winoground(scored: Scored, file: Path, images: Path) -> None:
    """Two captions and two images, over Winoground's examples.jsonl."""
    usable = Usable()
    with scored.model() as (model, _):
        found = read_winoground(file, images, usable)[: scored.limit]
        scored.tell("winoground", scores.winoground(model, found, _track), usable, len(found))


def _answers(command: Any) -> Any:
    command = click.option(
        "--answers", "kept", type=_NEW, help="Writes every answer (JSON lines)."
    )(command)
    command = click.option("--by", type=click.Choice(list(SCORES)), help="How answers are scored.")(
        command
    )
    return _images(command)


@score.command()
@click.argument("questions", type=_FILE)
@click.argument("annotations", type=_FILE)
@click.option(
    "--names",
    default="COCO_val2014_{:012d}.jpg",
    show_default=True,
    help="File name of an image id.",
)
@_answers
@click.pass_obj
def vqa(
    scored: Scored,
    questions: Path,
    annotations: Path,
    names: str,
    images: Path,
    by: str | None,
    kept: Path | None,
) -> None:
    """VQA accuracy over VQAv2's questions and annotations."""
    usable = Usable()
    with scored.model() as (model, generator):
        found = read_vqa(questions, annotations, images, names, usable)
        _tell_answers(scored, "vqa", found, by or "vqa", kept, usable, model, generator)


@score.command()
@click.argument("file", type=_FILE)
@_answers
@click.pass_obj
def answers(scored: Scored, file: Path, images: Path, by: str | None, kept: Path | None) -> None:
    """Exact match over JSON lines with image, question, and answer or answers."""
    usable = Usable()
    with scored.model() as (model, generator):
        found = read_answers(file, images, usable)
        _tell_answers(scored, "answers", found, by or "exact", kept, usable, model, generator)


def _tell_answers(
    scored: Scored,
    name: str,
    asked: Sequence[AskedImage],
    by: str,
    kept: Path | None,
    usable: Usable,
    model: SummaryModel,
    generator: Generator,
) -> None:
    asked = asked[: scored.limit]
    given = list(scores.answered(model, generator, asked, by, _track))
    if kept:
        lines = (
            {
                "image": each.path.name,
                "question": each.question,
                "answers": each.answers,
                "answer": text,
                "score": value,
            }
            for each, text, value in given
        )
        kept.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    percent = 100 * sum(value for *_, value in given) / len(given)
    scored.tell(name, {by: round(percent, 1)}, usable, len(asked))


_track = partial(track, description="Scoring", console=Console(stderr=True), transient=True)
