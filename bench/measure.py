"""Measures alternatives in turn; reports medians, in a table and in one line of JSON.

Run in turn, all alternatives suffer alike from whatever else the machine does meanwhile.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.machine import Machine, this_machine, versions


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
    def text(self) -> str:
        """The value in three digits, or in whole numbers from 1000 on."""
        return f"{self.value:,.0f}" if abs(self.value) >= 1000 else f"{self.value:.3g}"

    @property
    def met(self) -> bool:
        """Whether the value is not on the wrong side of a bar."""
        above = self.at_least is None or self.value >= self.at_least
        return above and (self.at_most is None or self.value <= self.at_most)


@dataclass(frozen=True)
class Result:
    """What one run of a benchmark measured, where, and with which versions."""

    benchmark: str
    measured_on: date  # in UTC
    figures: tuple[Figure, ...]
    machine: Machine
    versions: Mapping[str, str]

    def to_json(self) -> str:
        """The line that a benchmark ends with."""
        bars = {
            figure.name: {
                "at_least": figure.at_least,
                "at_most": figure.at_most,
                "met": figure.met,
            }
            for figure in self.figures
            if figure.bar
        }
        line = {
            "benchmark": self.benchmark,
            "measured_on": self.measured_on.isoformat(),
            "figures": {figure.name: figure.value for figure in self.figures},
            "bars": bars,
            "machine": asdict(self.machine),
            "versions": dict(self.versions),
        }
        return json.dumps(line)

    @classmethod
    def from_json(cls, line: str) -> Result:
        """Raises ValueError if the line is not of `to_json`."""
        try:
            return cls._read(json.loads(line))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError("no figures of a benchmark") from error

    @classmethod
    def _read(cls, line: dict[str, Any]) -> Result:
        bars = line["bars"]
        figures = []
        for name, value in line["figures"].items():
            bar = bars.get(name, {})
            figure = Figure(name, float(value), bar.get("at_least"), bar.get("at_most"))
            figures.append(figure)
        return cls(
            line["benchmark"],
            date.fromisoformat(line["measured_on"]),
            tuple(figures),
            Machine(**line["machine"]),
            line["versions"],
        )


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


def report(
    benchmark: str, figures: Sequence[Figure], accelerator: str | None = None
) -> None:
    """Prints the table and, as the last line, the JSON.

    `accelerator` names the device that was measured, if it was not the processor.
    """
    table = Table("figure", "measured", "bar", "met", title=benchmark)
    for figure in figures:
        verdict = "" if not figure.bar else "yes" if figure.met else "NO"
        table.add_row(figure.name, figure.text, figure.bar, verdict)
    Console().print(table)
    result = Result(
        benchmark,
        datetime.now(UTC).date(),
        tuple(figures),
        this_machine(accelerator),
        versions(),
    )
    print(result.to_json(), flush=True)
