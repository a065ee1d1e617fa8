"""`precis eval`: figures of the default model, or of a folder of trained parts, on held-out data.

Knows nothing of the service.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import track
from rich.table import Table

from compressor import plots
from compressor.default_model.build import WEIGHTS, untrained
from compressor.default_model.data import cutouts as cutouts
from compressor.default_model.data import photos as photographs
from compressor.default_model.evaluation import figures, heldout
from compressor.errors import CompressorError
from compressor.evaluation.scores import token_sources
from compressor.fwd2bot import adapter_folder
from compressor.fwd2bot.baselines import BASELINES, SUMMARY_TOKENS
from compressor.fwd2bot.config import FILE_NAME
from compressor.fwd2bot.generator import LvlmGenerator
from compressor.fwd2bot.load import standardise
from compressor.fwd2bot.summary_model import LvlmSummaryModel

HARD_NEGATIVES = "hard-negative captions"
_FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command()
@click.option(
    "--weights",
    type=_FOLDER,
    help="Folder of trained parts, of heads alone for no adapters; the default model's own if left out.",
)
@click.option(
    "--photos", "photos_folder", type=_FOLDER, required=True, help="Photographs with index.jsonl."
)
@click.option("--objects", "objects_folder", type=_FOLDER, required=True, help="Prepared cut-outs.")
@click.option("--only", multiple=True, help="Figures to take: all if left out.")
@click.option("--limit", type=int, help="Questions of each figure.")
@click.option(
    "--baseline",
    "others",
    multiple=True,
    type=click.Choice(list(BASELINES)),
    help="Answer from these as well; see a recipe's `reads`.",
)
@click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Writes the figures as a picture (PNG).",
)
@click.option(
    "--answers",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Writes every answer (JSON lines).",
)
def evaluate(
    weights: Path | None,
    photos_folder: Path,
    objects_folder: Path,
    only: tuple[str, ...],
    limit: int | None,
    others: tuple[str, ...],
    plot: Path | None,
    answers: Path | None,
) -> None:
    """Measure naming, composed scenes and retrieval; prints a table and, last, one JSON line."""
    try:
        found = _figures(weights, photos_folder, objects_folder, only, limit, others, answers)
    except CompressorError as error:
        raise click.ClickException(str(error)) from error
    table = Table("figure", "percent", "of")
    for name, values in found.items():
        table.add_row(name, *(str(value) for value in values.values()))
    Console().print(table)
    if plot:
        plots.figures(found, plot)
    click.echo(json.dumps(found))


def _figures(
    weights: Path | None,
    photos_folder: Path,
    objects_folder: Path,
    only: tuple[str, ...],
    limit: int | None,
    others: tuple[str, ...],
    answers: Path | None,
) -> dict[str, Any]:
    folder = weights or WEIGHTS
    photos, objects = photographs.read(photos_folder), cutouts.load(objects_folder)
    lvlm = untrained(folder).eval()
    if (folder / FILE_NAME).exists():
        adapter_folder.load(lvlm, folder)
    else:
        standardise(lvlm)
    model, generator = (
        LvlmSummaryModel(lvlm, adapter_folder.fingerprint(folder)),
        LvlmGenerator(lvlm),
    )
    found: dict[str, Any] = {}
    lines: list[str] = []
    known = token_sources(model, lvlm)
    for name, questions in figures.question_sets(photos, objects).items():
        if only and name not in only:
            continue
        for source in (SUMMARY_TOKENS, *others):
            told = name if source == SUMMARY_TOKENS else f"{name}, {source}"
            answers_given = figures.answer(known[source], generator, questions(), limit)
            given = list(track(answers_given, description=told, transient=True))
            found[told] = {
                "percent": round(100 * sum(each.right for each in given) / len(given), 1),
                "of": len(given),
            }
            said = Counter(each.answer for each in given)
            click.echo(
                f"{told}: {found[told]['percent']} %; most frequent answers {said.most_common(3)}",
                err=True,
            )
            lines += [
                json.dumps(
                    {
                        "figure": told,
                        "expected": e.question.expected,
                        "answer": e.answer,
                        "right": e.right,
                    }
                )
                for e in given
            ]
    for name, pairs in figures.retrieval_sets(photos).items():
        if not only or name in only:
            for rank, percent in figures.recall(model, pairs).items():
                found[f"{name}, {rank}"] = {"percent": percent, "of": len(pairs.texts)}
    if not only or HARD_NEGATIVES in only:
        told = figures.preferred(model, heldout.hard_negatives(objects), limit)
        found[HARD_NEGATIVES] = {"percent": round(100 * sum(told) / len(told), 1), "of": len(told)}
    if answers:
        answers.write_text("".join(f"{line}\n" for line in lines))
    return found
