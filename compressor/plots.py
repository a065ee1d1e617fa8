"""Plots as PNG files: the log of a training run, figures of an evaluation."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

_SMOOTHED_OVER = 20  # steps
# What a run's plot has panels for, and the held-out loss that is drawn beside a loss.
_LOSSES = {
    "autoregressive": "eval_autoregressive",
    "distillation": None,
    "contrastive": "eval_contrastive",
}
_OTHERS = {
    "lr": "learning rate",
    "pairs": "image–caption pairs",
    "gradient_norm": "gradient norm",
    "padding": "padding, share of the second pass",
    "samples_per_second": "samples a second",
    "tokens_per_second": "tokens a second",
}


def losses(log: Path, target: Path) -> None:
    """Draws a run's `log.jsonl` over the steps: losses with their running means, then the rest.

    What a run did not log has no panel. Raises OSError.
    """
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    # A resumed run repeats some steps: the last line of a step counts.
    by_step = {line["step"]: line for line in lines}
    ordered = [by_step[step] for step in sorted(by_step)]
    panels = [
        name for name in (*_LOSSES, *_OTHERS) if any(line.get(name) for line in ordered)
    ]
    # Matplotlib refuses a figure of no panels, which the log of an empty run would ask for.
    count = max(1, len(panels))
    figure = Figure(figsize=(8, 1 + 2.5 * count), layout="constrained")
    for axes, name in zip(
        figure.subplots(count, squeeze=False)[:, 0], panels, strict=False
    ):
        if name == "lr":
            _draw_rates(axes, ordered)
        elif name in _LOSSES:
            _draw_smoothed(axes, ordered, name)
            _draw_held_out(axes, ordered, _LOSSES[name])
        else:
            _draw_smoothed(axes, ordered, name)
        axes.set(title=_OTHERS.get(name, f"{name} loss"), xlabel="step")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend()
    figure.savefig(target, format="png")


def _points(
    lines: Sequence[Mapping[str, Any]], name: str
) -> tuple[list[int], list[float]]:
    """The steps that logged a value, and the values."""
    logged = [line for line in lines if line.get(name) is not None]
    return [line["step"] for line in logged], [line[name] for line in logged]


def _draw_smoothed(axes: Axes, lines: Sequence[Mapping[str, Any]], name: str) -> None:
    steps, values = _points(lines, name)
    means = []
    for end in range(1, len(values) + 1):
        window = values[max(0, end - _SMOOTHED_OVER) : end]
        means.append(sum(window) / len(window))
    axes.plot(steps, values, alpha=0.3)
    axes.plot(steps, means, label=f"mean of {_SMOOTHED_OVER} steps")


def _draw_held_out(
    axes: Axes, lines: Sequence[Mapping[str, Any]], name: str | None
) -> None:
    steps, values = _points(lines, name) if name else ([], [])
    if values:
        axes.plot(steps, values, marker="o", label="held-out samples")


def _draw_rates(axes: Axes, lines: Sequence[Mapping[str, Any]]) -> None:
    for part in lines[0]["lr"]:
        axes.plot(
            [line["step"] for line in lines],
            [line["lr"][part] for line in lines],
            label=part,
        )


def figures(percents: Mapping[str, Mapping[str, float]], target: Path) -> None:
    """Draws a bar for each figure's `percent`. Raises OSError."""
    names = list(percents)
    figure = Figure(figsize=(8, 1 + 0.35 * len(names)), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh(names, [percents[name]["percent"] for name in names])
    axes.bar_label(bars, fmt="%.1f", padding=3)
    axes.set(xlim=(0, 105), xlabel="percent")
    # `barh` draws the first name at the bottom; readers expect it at the top, as in the table.
    axes.invert_yaxis()
    figure.savefig(target, format="png")


def rates(
    points: Sequence[tuple[str, float, Mapping[str, float]]], target: Path
) -> None:
    """Draws (name, bytes, percents by figure) points: a panel a figure, a line a name.

    Raises OSError.
    """
    titles = list(points[0][2])
    figure = Figure(figsize=(8, 1 + 2.7 * len(titles)), layout="constrained")
    panels = figure.subplots(len(titles), squeeze=False, sharex=True)[:, 0]
    for axes, title in zip(panels, titles, strict=True):
        for name in dict.fromkeys(name for name, _, _ in points):
            line = sorted(
                (size, percents[title]) for of, size, percents in points if of == name
            )
            axes.plot(*zip(*line, strict=True), marker="o")
            axes.annotate(name, line[-1], textcoords="offset points", xytext=(6, 6))
        axes.set(
            xscale="log",
            title=title,
            ylabel="percent",
            # Room above 100 % for the names at the ends of the lines.
            ylim=(0, 118),
            yticks=range(0, 101, 20),
        )
        axes.margins(x=0.15)
        axes.grid(alpha=0.3)
    axes.set(xlabel="bytes an image")
    figure.savefig(target, format="png")


@dataclass(frozen=True)
class Bin:
    """Scores whose probabilities lie close together."""

    told: float  # mean probability
    right: float  # share that is right
    count: int


def reliability(bins: Mapping[str, Sequence[Bin]], target: Path) -> None:
    """Draws the share that is right over the probability, a panel a name. Raises OSError.

    A reliability diagram: Niculescu-Mizil and Caruana, "Predicting Good Probabilities With
    Supervised Learning" (ICML 2005).
    """
    count = len(bins)
    figure = Figure(figsize=(4 * count, 4.2), layout="constrained")
    panels = figure.subplots(1, count, squeeze=False, sharey=True)[0]
    for axes, (name, of_name) in zip(panels, bins.items(), strict=True):
        told = [each.told for each in of_name]
        right = [each.right for each in of_name]
        axes.plot([0, 1], [0, 1], color="grey", linestyle="dashed")
        axes.plot(told, right, marker="o")
        for each in of_name:
            axes.annotate(
                str(each.count),
                (each.told, each.right),
                textcoords="offset points",
                xytext=(5, -10),
                fontsize="small",
            )
        axes.set(title=name, xlabel="probability", xlim=(0, 1), ylim=(0, 1))
        axes.grid(alpha=0.3)
    panels[0].set(ylabel="share that is right")
    figure.savefig(target, format="png")


@dataclass(frozen=True)
class Margin:
    """A mean with its margin, and what it is the mean of."""

    value: float
    margin: float
    parts: tuple[float, ...]


def margins(panels: Mapping[str, Mapping[str, Margin]], target: Path) -> None:
    """Draws means with their margins and parts, a panel a figure, a row a name. Raises OSError."""
    rows = max(len(panel) for panel in panels.values())
    size = (9, len(panels) * (0.8 + 0.28 * rows))
    figure = Figure(figsize=size, layout="constrained")
    for axes, (title, panel) in zip(
        figure.subplots(len(panels), squeeze=False)[:, 0], panels.items(), strict=True
    ):
        for row, mean in enumerate(panel.values()):
            axes.errorbar(mean.value, row, xerr=mean.margin, fmt="o", color="C0")
            axes.scatter(
                mean.parts, [row] * len(mean.parts), s=14, color="C1", zorder=3
            )
        axes.set(title=title, yticks=range(len(panel)), yticklabels=list(panel))
        axes.invert_yaxis()
        axes.grid(alpha=0.3)
    figure.savefig(target, format="png")
