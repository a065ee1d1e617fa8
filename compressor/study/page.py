"""The table and the plot of a study, written into a page between two marks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, variance

from compressor import plots
from compressor.errors import DataInvalid
from compressor.evaluation.folder import Figure
from compressor.plots import Margin
from compressor.study.ablation import Record
from compressor.study.cells import Cell
from compressor.study.measure import FIGURES

START, END = "<!-- study: start -->", "<!-- study: end -->"


def over_seeds(figures: Sequence[Figure]) -> Margin:
    """Mean and margin of what the same cell reached with several seeds.

    The margin has two parts: the choice of held-out images, which all seeds share and so do not
    average out, and the spread between seeds, as the standard error of their mean.
    """
    values = tuple(figure.value for figure in figures)
    of_images = fmean(((figure.high - figure.low) / 2) ** 2 for figure in figures)
    of_seeds = variance(values) / len(values) if len(values) > 1 else 0.0
    return Margin(fmean(values), math.sqrt(of_images + 1.96**2 * of_seeds), values)


def check(page: Path) -> None:
    """Raises DataInvalid for a page that exists and has no place for the table."""
    if page.exists():
        _parts(page)


def write(page: Path, cells: Sequence[Cell], records: Sequence[Record]) -> None:
    """Writes the table between the marks of the page, a new one if need be, and the plot beside it.

    Raises DataInvalid.
    """
    before, behind = _parts(page) if page.exists() else ("# Ablation study\n\n", "")
    by_cell = {
        cell.name: [record for record in records if record.cell == cell.name]
        for cell in cells
    }
    picture = page.with_suffix(".png")
    text = [START, "", *_summary(records), "", *_table(cells, by_cell)]
    if records:
        panels = {name: _panel(name, cells, by_cell) for name in FIGURES}
        plots.margins({name: panel for name, panel in panels.items() if panel}, picture)
        text += ["", f"![Figures of all cells]({picture.name})"]
    page.write_text(before + "\n".join([*text, "", END]) + behind, encoding="utf-8")


def _parts(page: Path) -> tuple[str, str]:
    """What stands before and behind the marks."""
    text = page.read_text(encoding="utf-8")
    before, start, rest = text.partition(START)
    _, end, behind = rest.partition(END)
    if not start or not end:
        raise DataInvalid(f"{page} has no lines {START} and {END} for the table")
    return before, behind


def _summary(records: Sequence[Record]) -> list[str]:
    if not records:
        return ["No run is finished yet."]
    samples = sorted({record.samples for record in records})
    devices = sorted({record.device for record in records})
    held_out = records[0].identity["held-out data"]
    return [
        f"{len(records)} runs of {' or '.join(map(str, samples))} training samples each, "
        f"{sum(record.hours for record in records):.2f} hours of training in all on "
        f"{' and '.join(devices)}; measured on {held_out['images']} held-out images with "
        f"{held_out['questions']} questions. Base model: {records[0].identity['base model']}."
    ]


def _table(cells: Sequence[Cell], by_cell: Mapping[str, Sequence[Record]]) -> list[str]:
    lines = [
        f"| cell | seeds | numbers an image | {' | '.join(FIGURES)} |",
        f"|---|---|---|{'---|' * len(FIGURES)}",
    ]
    for cell in cells:
        records = by_cell[cell.name]
        columns = [_column(records, name) for name in FIGURES]
        kept = f"{records[0].values:,}" if records else "–"
        row = [f"{cell.group}: {cell.title}", str(len(records)), kept, *columns]
        lines.append(f"| {' | '.join(row)} |")
    return lines


def _column(records: Sequence[Record], name: str) -> str:
    figures = [record.figures[name] for record in records if name in record.figures]
    if not figures:
        return "–"
    mean = over_seeds(figures)
    return f"{mean.value:.2f} ± {mean.margin:.2f}"


def _panel(
    name: str, cells: Sequence[Cell], by_cell: Mapping[str, Sequence[Record]]
) -> dict[str, Margin]:
    panel = {}
    for cell in cells:
        figures = [
            record.figures[name]
            for record in by_cell[cell.name]
            if name in record.figures
        ]
        if figures:
            panel[cell.title] = over_seeds(figures)
    return panel
