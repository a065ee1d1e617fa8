"""Plots as PNG: losses of a training run, figures of an evaluation.

Knows nothing of where the numbers come from. Draws into files only, never on a screen.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

_SMOOTHED_OVER = 20  # steps


def losses(log: Path, target: Path) -> None:
    """Draws each loss of a run's `log.jsonl` over the steps, and its running mean. Raises OSError."""
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    by_step = {
        line["step"]: line for line in lines
    }  # a resumed run has repeated some steps: the last counts
    names = [
        name
        for name in ("autoregressive", "contrastive", "auxiliary")
        if any(line.get(name) for line in lines)
    ]
    figure = Figure(figsize=(8, 1 + 2.5 * max(1, len(names))), layout="constrained")
    for axes, name in zip(
        figure.subplots(max(1, len(names)), squeeze=False)[:, 0], names, strict=False
    ):
        steps = sorted(by_step)
        values = [by_step[step].get(name, 0.0) for step in steps]
        means = [
            sum(values[max(0, end - _SMOOTHED_OVER) : end]) / min(end, _SMOOTHED_OVER)
            for end in range(1, len(values) + 1)
        ]
        axes.plot(steps, values, alpha=0.3)
        axes.plot(steps, means, label=f"mean of {_SMOOTHED_OVER} steps")
        axes.set(title=f"{name} loss", xlabel="step")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend()
    figure.savefig(target, format="png")


def figures(found: Mapping[str, Mapping[str, float]], target: Path) -> None:
    """Draws a bar for each figure's `percent`. Raises OSError."""
    names = list(found)
    figure = Figure(figsize=(8, 1 + 0.35 * len(names)), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh(names, [found[name]["percent"] for name in names])
    axes.bar_label(bars, fmt="%.1f", padding=3)
    axes.set(xlim=(0, 105), xlabel="percent")
    axes.invert_yaxis()
    figure.savefig(target, format="png")


def rates(points: Sequence[tuple[str, float, Mapping[str, float]]], target: Path) -> None:
    """Draws (name, bytes, percents by figure) points: a field a figure, a line a name. Raises OSError."""
    wanted = list(points[0][2])
    figure = Figure(figsize=(8, 1 + 2.7 * len(wanted)), layout="constrained")
    for axes, title in zip(
        figure.subplots(len(wanted), squeeze=False, sharex=True)[:, 0], wanted, strict=True
    ):
        for name in dict.fromkeys(name for name, _, _ in points):
            mine = sorted((size, percents[title]) for of, size, percents in points if of == name)
            axes.plot(*zip(*mine, strict=True), marker="o")
            axes.annotate(name, mine[-1], textcoords="offset points", xytext=(6, 6))
        axes.set(
            xscale="log", title=title, ylabel="percent", ylim=(0, 118), yticks=range(0, 101, 20)
        )
        axes.margins(x=0.15)
        axes.grid(alpha=0.3)
    axes.set(xlabel="bytes an image")
    figure.savefig(target, format="png")
