"""Measures alternatives in turn; reports medians, in a table and in one line of JSON.

Run in turn, all alternatives suffer alike from whatever else the machine does meanwhile.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Figure:
    """One number of a benchmark and, where there is one, the bar it has to reach."""

    name: str  # with its unit
    value: float
    at_least: float | None = None
    at_most: float | None = None

    @property
    def bar(self) -> str:
        """The bar in words; empty where there is none."""
        words = [f"at least {self.at_least:g}"] if self.at_least is not None else []
        return ", ".join(
            words + ([f"at most {self.at_most:g}"] if self.at_most is not None else [])
        )

    @property
    def met(self) -> bool:
        """Whether the value is not on the wrong side of a bar."""
        above = self.at_least is None or self.value >= self.at_least
        return above and (self.at_most is None or self.value <= self.at_most)


def seconds(work: Callable[[], object]) -> float:
    """How long `work` takes once."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def in_turn(
    measurements: Mapping[str, Callable[[], float]], rounds: int
) -> dict[str, list[float]]:
    """Each measurement `rounds` times, one of each in every round."""
    taken: dict[str, list[float]] = {name: [] for name in measurements}
    for _ in range(rounds):
        for name, measure in measurements.items():
            taken[name].append(measure())
    return taken


def median_ratio(numerators: Sequence[float], denominators: Sequence[float]) -> float:
    """Median of the ratios within each round: the two of a round met the same weather."""
    return median(a / b for a, b in zip(numerators, denominators, strict=True))


def report(benchmark: str, figures: Sequence[Figure]) -> None:
    """Prints the table and, as the last line, the JSON."""
    table = Table("figure", "measured", "bar", "met", title=benchmark)
    for figure in figures:
        verdict = "" if not figure.bar else "yes" if figure.met else "NO"
        value = (
            f"{figure.value:,.0f}"
            if abs(figure.value) >= 1000
            else f"{figure.value:.3g}"
        )
        table.add_row(figure.name, value, figure.bar, verdict)
    Console().print(table)
    line = {
        "benchmark": benchmark,
        "figures": {figure.name: round(figure.value, 4) for figure in figures},
        "bars": {
            figure.name: {"bar": figure.bar, "met": figure.met}
            for figure in figures
            if figure.bar
        },
        "machine": {
            "cores": os.cpu_count(),
            "processor": platform.machine(),
            "system": platform.system(),
        },
    }
    print(json.dumps(line), flush=True)
