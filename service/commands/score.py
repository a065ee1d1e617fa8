"""`precis score`: public benchmarks from local files, scored on the path of stored images.

Tokens go through the token codec between the two passes, and embeddings through eight bits.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.table import Table

from compressor import plots
from compressor.evaluation import scores
from compressor.evaluation.compositional import read_sugarcrepe, read_winoground
from compressor.evaluation.karpathy import read_karpathy
from compressor.evaluation.usable import Usable
from compressor.evaluation.vqa import SCORES, AskedImage, read_answers, read_vqa
from compressor.ports import Generator, SummaryModel
from service.commands.flags import BOTH_PASSES, settings_flags, settings_from_flags
from service.commands.progress import track
from service.model_wrappers import StoredSummaryModel
from service.models import load_models
from service.runtime import codec_of

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)
_NEW = click.Path(path_type=Path, dir_okay=False)
_track = partial(track, description="Scoring")
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Scoring:
    """What the benchmarks share: the model behind its codec, and the report of the figures."""

    flags: dict[str, Any]
    limit: int | None
    plot: Path | None

    @cached_property
    def model(self) -> tuple[SummaryModel, Generator]:
        """Both passes of the model of the settings, loaded on first use."""
        settings = settings_from_flags(self.flags)
        models = load_models(settings)
        codec = codec_of(models, settings)
        click.echo(
            f"{models.summary.fingerprint[:16]}, tokens through {codec.name}", err=True
        )
        return StoredSummaryModel(models.as_kept, codec), models.generator

    def report(
        self, name: str, figures: dict[str, float], usable: Usable, used: int
    ) -> None:
        """Prints a table and, last, one line of JSON; draws the plot if there is to be one."""
        skipped = dict(usable.skipped) or "none"
        table = Table(name, "percent", caption=f"{used} used; skipped: {skipped}")
        for figure, percent in figures.items():
            table.add_row(figure, f"{percent:.1f}")
        Console().print(table)
        if self.plot:
            bars = {figure: {"percent": percent} for figure, percent in figures.items()}
            plots.figures(bars, self.plot)
        line = {
            "score": name,
            "used": used,
            "skipped": usable.skipped,
            "percent": figures,
        }
        click.echo(json.dumps(line))


@click.group()
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    help="Use the first N images or questions of the file.",
)
@click.option("--plot", type=_NEW, help="Write a bar chart to this PNG file.")
@settings_flags("codec", "codec_state", *BOTH_PASSES)
@click.pass_context
def score(
    context: click.Context, /, limit: int | None, plot: Path | None, **flags: Any
) -> None:
    """Score the model on a public benchmark in local files.

    docs/evaluation.md describes the formats and the figures.
    """
    context.obj = Scoring(flags, limit, plot)


def _images(command: F) -> F:
    return click.option(
        "--images",
        type=_FOLDER,
        required=True,
        help="Folder that image names are relative to.",
    )(command)


@score.command()
@click.argument("file", type=_FILE)
@_images
@click.option(
    "--split", default="test", show_default=True, help="Split of the file to score on."
)
@click.pass_obj
def karpathy(scoring: Scoring, file: Path, images: Path, split: str) -> None:
    """Retrieval in both directions over Flickr30k or COCO, in Karpathy's format."""
    usable = Usable()
    captioned = read_karpathy(file, images, split, usable)[: scoring.limit]
    model, _ = scoring.model
    figures = scores.captioned(model, captioned, _track)
    scoring.report("karpathy", figures, usable, len(captioned))


@score.command()
@click.argument("folder", type=_FOLDER)
@_images
@click.pass_obj
def sugarcrepe(scoring: Scoring, folder: Path, images: Path) -> None:
    """The right caption against a wrong one, over the JSON files of SugarCrepe."""
    usable = Usable()
    categories = read_sugarcrepe(folder, images, usable)
    questions = {name: pairs[: scoring.limit] for name, pairs in categories.items()}
    model, _ = scoring.model
    figures = scores.sugarcrepe(model, questions, _track)
    scoring.report("sugarcrepe", figures, usable, sum(map(len, questions.values())))


@score.command()
@click.argument("file", type=_FILE)
@_images
@click.pass_obj
def winoground(scoring: Scoring, file: Path, images: Path) -> None:
    """Two captions against two images, over examples.jsonl of Winoground."""
    usable = Usable()
    questions = read_winoground(file, images, usable)[: scoring.limit]
    model, _ = scoring.model
    figures = scores.winoground(model, questions, _track)
    scoring.report("winoground", figures, usable, len(questions))


def _answers(command: F) -> F:
    for option in (
        click.option(
            "--by", type=click.Choice(list(SCORES)), help="How answers are scored."
        ),
        click.option(
            "--answers",
            "target",
            type=_NEW,
            help="Write every answer to this file (JSON lines).",
        ),
    ):
        command = option(command)
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
    scoring: Scoring,
    questions: Path,
    annotations: Path,
    names: str,
    images: Path,
    by: str | None,
    target: Path | None,
) -> None:
    """VQA accuracy over the questions and annotations of VQAv2."""
    usable = Usable()
    asked = read_vqa(questions, annotations, images, names, usable)[: scoring.limit]
    _score_answers(scoring, "vqa", asked, by or "vqa", target, usable)


@score.command()
@click.argument("file", type=_FILE)
@_answers
@click.pass_obj
def answers(
    scoring: Scoring, file: Path, images: Path, by: str | None, target: Path | None
) -> None:
    """Exact match over JSON lines with image, question, and answer or answers."""
    usable = Usable()
    asked = read_answers(file, images, usable)[: scoring.limit]
    _score_answers(scoring, "answers", asked, by or "exact", target, usable)


def _score_answers(
    scoring: Scoring,
    name: str,
    asked: Sequence[AskedImage],
    by: str,
    target: Path | None,
    usable: Usable,
) -> None:
    model, generator = scoring.model
    answered = list(scores.answered(model, generator, asked, by, _track))
    if target:
        lines = [_answer_line(*answer) for answer in answered]
        target.write_text("".join(lines), encoding="utf-8")
    percent = 100 * sum(value for _, _, value in answered) / len(answered)
    scoring.report(name, {by: round(percent, 1)}, usable, len(asked))


def _answer_line(question: AskedImage, answer: str, value: float) -> str:
    line = {
        "image": question.path.name,
        "question": question.question,
        "answers": question.answers,
        "answer": answer,
        "score": value,
    }
    return json.dumps(line) + "\n"
