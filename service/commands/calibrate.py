"""`precis calibrate`: fits a model's curves from scores to probabilities, on data it never saw."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from compressor import plots
from compressor.evaluation.verdicts import (
    QuestionAbout,
    Verdicts,
    answer_verdicts,
    hit_verdicts,
    joined,
    questions_of,
    searches_of,
)
from compressor.text import normalise_text
from compressor.training.datasets import Entry, read
from index.calibration import (
    AnswerCalibration,
    Calibration,
    Curve,
    QueryKind,
    fit_answers,
    fit_curve,
    query_kind,
    write_calibration,
)
from service.commands.flags import BOTH_PASSES, settings_flags, settings_from_flags
from service.commands.progress import track
from service.model_wrappers import StoredSummaryModel
from service.models import load_models
from service.runtime import codec_of

_MIN_MATCHES = 20  # of a kind of search text, for a curve of its own
_NEW = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.option(
    "--data",
    "sources",
    type=click.Path(path_type=Path, exists=True),
    multiple=True,
    required=True,
    help="Captions and queries to search with and questions to ask, in a format of `precis train"
    " lvlm`, of images that the model never trained on; repeatable.",
)
@click.option("--plot", type=_NEW, help="Write a reliability plot to this PNG file.")
@click.argument("target", type=_NEW)
@settings_flags("codec", "codec_state", *BOTH_PASSES)
def calibrate(
    sources: tuple[Path, ...],
    plot: Path | None,
    target: Path,
    **flags: object,
) -> None:
    """Fit the curves of search hits and of answers, and write them to TARGET (JSON).

    Answers have a curve where the data have questions. Prints a line of JSON last.
    """
    settings = settings_from_flags(flags)
    libraries = [_entries(source) for source in sources]
    models = load_models(settings)
    model = StoredSummaryModel(models.as_kept, codec_of(models, settings))
    searching = partial(track, description="Searching")
    asking = partial(track, description="Asking")
    hits: list[tuple[str, Verdicts]] = []
    asked: list[QuestionAbout] = []
    for entries in libraries:
        searches = searches_of(entries)
        if searches.texts:
            hits += hit_verdicts(model, searches, searching)
        asked += questions_of(entries)
    by_kind = _by_kind(hits)
    queries = query_curves(by_kind)
    answers = None
    reliability: dict[str, Sequence[plots.Bin]] = {}
    for kind, verdicts in by_kind.items():
        reliability[f"hits of a {kind}"] = bins(queries[kind], verdicts)
    if asked:
        verdicts = answer_verdicts(model, models.generator, asked, asking)
        answers = fit_answers(verdicts.scores, verdicts.right)
        reliability["answers"] = bins(answers.curve, verdicts)
    write_calibration(Calibration(model.fingerprint, queries, answers), target)
    if plot:
        plots.reliability(reliability, plot)
    _report(reliability, queries, answers)


def _entries(source: Path) -> Sequence[Entry]:
    """Images that are searched together, with their texts. Raises DataInvalid."""
    folder = source if source.is_dir() else source.parent
    return read(source, folder).entries


def _by_kind(hits: Sequence[tuple[str, Verdicts]]) -> Mapping[QueryKind, Verdicts]:
    """The verdicts of all search texts of a kind together."""
    parts: dict[QueryKind, list[Verdicts]] = {}
    for text, verdicts in hits:
        parts.setdefault(query_kind(normalise_text(text)), []).append(verdicts)
    return {kind: joined(parts[kind]) for kind in QueryKind if kind in parts}


def query_curves(by_kind: Mapping[QueryKind, Verdicts]) -> dict[QueryKind, Curve]:
    """A curve for each kind; one of few matches, or none, gets the curve of all kinds together.

    Raises index.errors.InvalidCalibration.
    """
    together = joined(list(by_kind.values()))
    common = fit_curve(together.scores, together.right)
    curves = dict.fromkeys(QueryKind, common)
    for kind, verdicts in by_kind.items():
        if verdicts.right.sum() >= _MIN_MATCHES:
            curves[kind] = fit_curve(verdicts.scores, verdicts.right)
    return curves


def bins(curve: Curve, verdicts: Verdicts) -> list[plots.Bin]:
    """Mean probability, share that is right and number of the scores in each tenth from 0 to 1."""
    probabilities = np.array([curve.probability(score) for score in verdicts.scores])
    tenths = np.minimum((probabilities * 10).astype(int), 9)
    found = []
    for tenth in np.unique(tenths):
        inside = tenths == tenth
        told = float(probabilities[inside].mean())
        share = float(verdicts.right[inside].mean())
        found.append(plots.Bin(told, share, int(inside.sum())))
    return found


def _report(
    reliability: Mapping[str, Sequence[plots.Bin]],
    queries: Mapping[QueryKind, Curve],
    answers: AnswerCalibration | None,
) -> None:
    """Prints a table of the bins and, last, a line of JSON."""
    table = Table("of", "probability", "right", "number")
    for name, of_name in reliability.items():
        for each in of_name:
            table.add_row(
                name, f"{each.told:.2f}", f"{each.right:.2f}", str(each.count)
            )
    Console().print(table)
    line = {
        "score_at_half": {
            kind.value: _rounded(curve.score(0.5)) for kind, curve in queries.items()
        },
        "answer_threshold": answers and round(answers.threshold, 3),
        "bins": {
            name: [asdict(each) for each in of_name]
            for name, of_name in reliability.items()
        },
    }
    click.echo(json.dumps(line))


def _rounded(score: float | None) -> float | None:
    return None if score is None else round(score, 3)
