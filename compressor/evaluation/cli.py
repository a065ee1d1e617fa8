"""`precis eval`: figures of an LVLM over a folder of captioned and questioned images."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import track
from rich.table import Table

from compressor.errors import CompressorError
from compressor.evaluation.folder import (
    AnsweredQuestion,
    Figure,
    answered_questions,
    description_figure,
    descriptions,
    figures_by_kind,
    interval,
    recall_figures,
)
from compressor.evaluation.scores import Tracked, token_sources
from compressor.fwd2bot.baselines import BASELINES, SUMMARY_TOKENS
from compressor.fwd2bot.generator import LvlmGenerator
from compressor.fwd2bot.load import load_lvlm
from compressor.fwd2bot.placement import Placement
from compressor.fwd2bot.summary_model import LvlmSummaryModel
from compressor.training.datasets import read

_FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)
_NEW_FILE = click.Path(path_type=Path, dir_okay=False)
_NO_FINGERPRINT = "0" * 32  # nothing is stored


@click.command("eval")
@click.option("--model", "folder", type=_FOLDER, required=True, help="The LVLM.")
@click.option(
    "--adapters",
    type=_FOLDER,
    help="Its adapters; without them summary tokens are training-free.",
)
@click.option(
    "--data",
    type=_FOLDER,
    required=True,
    help="Folder with index.jsonl and images/.",
)
@click.option("--limit", type=click.IntRange(min=2), help="Use the first N images.")
@click.option(
    "--reads",
    type=click.Choice([SUMMARY_TOKENS, *(baseline.value for baseline in BASELINES)]),
    default=SUMMARY_TOKENS,
    show_default=True,
    help="What the second pass reads of an image.",
)
@click.option(
    "--keep", type=click.IntRange(min=1), help="Use the first N summary tokens."
)
@click.option("--dtype", default="auto", show_default=True)
@click.option("--answers", type=_NEW_FILE, help="Writes every answer (JSON lines).")
def evaluate(
    folder: Path,
    adapters: Path | None,
    data: Path,
    limit: int | None,
    reads: str,
    keep: int | None,
    dtype: str,
    answers: Path | None,
) -> None:
    """Answers by kind of question, CIDEr-D of descriptions, and text-to-image recall."""
    try:
        entries = list(read(data, data).entries)[:limit]
        lvlm = load_lvlm(folder, adapters, placement=Placement(dtype=dtype))
        model = LvlmSummaryModel(lvlm, _NO_FINGERPRINT)
        source = token_sources(model, lvlm)[reads]
        generator = LvlmGenerator(lvlm)

        def kept(images: Sequence[Any]) -> list[Any]:
            return [vectors[:keep] for vectors in source(images)]

        answered = list(
            answered_questions(generator, kept, entries, _tracked("answers"))
        )
        captioned = [entry for entry in entries if entry.captions]
        texts = descriptions(generator, kept, captioned, _tracked("descriptions"))
        recall: dict[str, Figure] = {}
        if reads == SUMMARY_TOKENS:
            recall = recall_figures(model, entries, _tracked("recall"))
    except CompressorError as error:
        raise click.ClickException(str(error)) from error
    if answers:
        lines = [*map(_answer_line, answered)]
        for entry, text in zip(captioned, texts, strict=True):
            lines.append(_line(image=entry.id, kind="description", answer=text))
        answers.write_text("".join(lines), encoding="utf-8")
    _report(answered, description_figure(texts, captioned) if texts else None, recall)


def _tracked(description: str) -> Tracked:
    # On the other stream, so that the last line of the output is the JSON.
    console = Console(stderr=True)

    def follow(steps: Sequence[int]) -> Any:
        return track(steps, description=description, console=console)

    return follow


def _answer_line(answered: AnsweredQuestion) -> str:
    return _line(
        image=answered.image,
        kind=answered.qa.kind,
        question=answered.qa.question,
        expected=answered.qa.answer,
        answer=answered.answer,
    )


def _line(**values: str) -> str:
    return json.dumps(values) + "\n"


def _report(
    answered: Sequence[AnsweredQuestion],
    description: Figure | None,
    recall: dict[str, Figure],
) -> None:
    figures: dict[str, Figure] = {}
    for kind, shares in figures_by_kind(answered).items():
        for name, share in shares.items():
            figures[f"{kind}, {name}"] = share
    if answered:
        exact = [float(answer.is_exact) for answer in answered]
        figures["all questions, exact"] = interval(exact)
    if description:
        figures["description, CIDEr-D"] = description
    figures |= recall
    table = Table("figure", "value", "95 % interval", "of")
    for name, figure in figures.items():
        between = f"{figure.low:.3f} to {figure.high:.3f}"
        table.add_row(name, f"{figure.value:.3f}", between, str(figure.count))
    Console().print(table)
    click.echo(json.dumps({name: figure.values() for name, figure in figures.items()}))
