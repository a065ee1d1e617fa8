"""`precis eval`: figures of the default model, or of a folder of weights, on held-out data."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import track
from rich.table import Table

from compressor import plots
from compressor.default_model import soft_word_llava  # noqa: F401  registers the base
from compressor.default_model.build import WEIGHTS, untrained
from compressor.default_model.data import cutouts
from compressor.default_model.data import photos as photographs
from compressor.default_model.evaluation import figures, heldout
from compressor.default_model.evaluation.figures import Answered
from compressor.errors import CompressorError
from compressor.evaluation.cli import eval_lvlm
from compressor.evaluation.scores import text_to_image_recall, token_sources
from compressor.fwd2bot import adapter_folder
from compressor.fwd2bot.baselines import BASELINES, SUMMARY_TOKENS
from compressor.fwd2bot.config import FILE_NAME
from compressor.fwd2bot.generator import LvlmGenerator
from compressor.fwd2bot.load import standardise
from compressor.fwd2bot.model import SummaryLvlm
from compressor.fwd2bot.summary_model import LvlmSummaryModel

__all__ = ["eval_lvlm", "evaluate"]
HARD_NEGATIVES = "hard-negative captions"
_FOLDER = click.Path(path_type=Path, file_okay=False)
_NEW_FILE = click.Path(path_type=Path, dir_okay=False)


@dataclass(frozen=True)
class _Selection:
    """Which figures are measured, and how."""

    only: Collection[str]  # all if empty
    limit: int | None  # questions of each figure
    sources: Sequence[str]  # of what the second pass reads

    def has(self, figure: str) -> bool:
        return not self.only or figure in self.only


@dataclass
class _Results:
    """Figures by name, and every answer as a JSON line."""

    figures: dict[str, dict[str, Any]] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)

    def add_answers(self, figure: str, answers: Sequence[Answered]) -> None:
        right = [answer.right for answer in answers]
        self.add_share(figure, right)
        for answer in answers:
            line = {
                "figure": figure,
                "expected": answer.question.expected,
                "answer": answer.answer,
                "right": answer.right,
            }
            self.lines.append(json.dumps(line))

    def add_share(self, figure: str, right: Sequence[bool]) -> None:
        percent = round(100 * sum(right) / len(right), 1)
        self.figures[figure] = {"percent": percent, "of": len(right)}


@click.command()
@click.option(
    "--weights",
    type=_FOLDER,
    help="Folder of weights, or of heads alone (then without adapters); default: the shipped ones.",
)
@click.option(
    "--photos",
    "photos_folder",
    type=_FOLDER,
    required=True,
    help="Photographs with index.jsonl.",
)
@click.option(
    "--objects",
    "objects_folder",
    type=_FOLDER,
    required=True,
    help="Prepared cut-outs.",
)
@click.option(
    "--only",
    multiple=True,
    help="Figures to measure; all if left out.",
)
@click.option(
    "--limit",
    type=int,
    help="Questions of each figure.",
)
@click.option(
    "--baseline",
    "baselines",
    multiple=True,
    type=click.Choice([baseline.value for baseline in BASELINES]),
    help="Answer from these as well; see `second_pass_input` of a recipe.",
)
@click.option(
    "--plot",
    type=_NEW_FILE,
    help="Writes the figures as a picture (PNG).",
)
@click.option(
    "--answers",
    type=_NEW_FILE,
    help="Writes every answer (JSON lines).",
)
def evaluate(
    weights: Path | None,
    photos_folder: Path,
    objects_folder: Path,
    only: tuple[str, ...],
    limit: int | None,
    baselines: tuple[str, ...],
    plot: Path | None,
    answers: Path | None,
) -> None:
    """Measure naming, composed scenes and retrieval; prints a table and, last, one JSON line."""
    selection = _Selection(only, limit, (SUMMARY_TOKENS, *baselines))
    try:
        results = _measure(
            weights or WEIGHTS,
            photos_folder,
            objects_folder,
            selection,
        )
    except CompressorError as error:
        raise click.ClickException(str(error)) from error
    table = Table("figure", "percent", "of")
    for name, values in results.figures.items():
        table.add_row(name, str(values["percent"]), str(values["of"]))
    Console().print(table)
    if answers:
        answers.write_text("".join(f"{line}\n" for line in results.lines))
    if plot:
        plots.figures(results.figures, plot)
    # The last line, so that scripts find it below the table for people.
    click.echo(json.dumps(results.figures))


def _measure(
    folder: Path,
    photos_folder: Path,
    objects_folder: Path,
    selection: _Selection,
) -> _Results:
    photos = photographs.read(photos_folder)
    objects = cutouts.load(objects_folder)
    lvlm = _load(folder)
    model = LvlmSummaryModel(lvlm, adapter_folder.fingerprint(folder))
    results = _Results()
    for figure, answers in _answers(lvlm, model, photos, objects, selection):
        results.add_answers(figure, answers)
        _report(figure, results.figures[figure]["percent"], answers)
    for name, pairs in figures.retrieval_sets(photos).items():
        if selection.has(name):
            for rank, percent in text_to_image_recall(model, pairs).items():
                results.figures[f"{name}, {rank}"] = {
                    "percent": percent,
                    "of": len(pairs.texts),
                }
    if selection.has(HARD_NEGATIVES):
        pairs_of_captions = heldout.hard_negatives(objects)
        preferred = figures.preferred(model, pairs_of_captions, selection.limit)
        results.add_share(HARD_NEGATIVES, preferred)
    return results


def _load(folder: Path) -> SummaryLvlm:
    # Adapters stay separate, unlike in serving: a baseline reads the base model without them.
    lvlm = untrained(folder).eval()
    if (folder / FILE_NAME).exists():
        adapter_folder.load(lvlm, folder)
    else:
        # Untrained retrieval still needs statistics of the states that it compares.
        standardise(lvlm)
    return lvlm


def _answers(
    lvlm: SummaryLvlm,
    model: LvlmSummaryModel,
    photos: photographs.Photos,
    objects: cutouts.Objects,
    selection: _Selection,
) -> Iterator[tuple[str, list[Answered]]]:
    """Each figure of questions from each source, with its answers."""
    generator = LvlmGenerator(lvlm)
    tokens_of = token_sources(model, lvlm)
    for name, questions in figures.question_sets(photos, objects).items():
        if not selection.has(name):
            continue
        for source in selection.sources:
            # Summary tokens keep the plain name, by which reports with other baselines compare.
            figure = name if source == SUMMARY_TOKENS else f"{name}, {source}"
            answers = figures.answer(
                tokens_of[source],
                generator,
                questions(),
                selection.limit,
            )
            yield figure, list(track(answers, description=figure, transient=True))


def _report(figure: str, percent: float, answers: Sequence[Answered]) -> None:
    # A model that always says the same shows at a glance.
    frequent = Counter(answer.answer for answer in answers).most_common(3)
    click.echo(f"{figure}: {percent} %; most frequent answers {frequent}", err=True)
