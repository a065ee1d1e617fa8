"""Runs the cells of a study with equal budgets, each with several seeds, and keeps their records.

A run has a folder of its own, with the trainer's log and checkpoint. `record.json` is written last:
a run that has one is finished, any other goes on from its checkpoint.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from compressor.errors import DataInvalid
from compressor.evaluation.folder import Figure
from compressor.fwd2bot.adapter_folder import base_name
from compressor.fwd2bot.config import SummaryConfig
from compressor.fwd2bot.load import assemble
from compressor.fwd2bot.placement import Placement
from compressor.study.cells import Cell
from compressor.study.measure import Measured, measured
from compressor.training import trainer
from compressor.training.config import TrainConfig
from compressor.training.datasets import Dataset, Entry
from compressor.training.stream import Blend
from compressor.training.trainer import StepLog

RECORD = "record.json"
FORMAT_VERSION = 1
Clock = Callable[[], float]  # seconds


@dataclass(frozen=True)
class Study:
    """What all cells have in common."""

    model: Path  # folder of the LVLM
    data: Sequence[Dataset]
    weights: Sequence[float]  # of the data; () by their sizes
    held_out: Sequence[Entry]
    recipe: TrainConfig
    folder: Path  # of all runs


@dataclass(frozen=True)
class Record:
    """A finished run."""

    cell: str
    seed: int
    identity: Mapping[str, Any]  # what was run, and on what
    device: str
    hours: float  # of training, on that device
    values: int  # numbers kept of an image
    figures: Mapping[str, Figure]

    @property
    def samples(self) -> int:
        """How many it was trained on."""
        recipe = self.identity["recipe"]
        return int(recipe["steps"] * recipe["batch_size"])

    def save(self, path: Path) -> None:
        """Writes the file at once or not at all."""
        values = {
            "format_version": FORMAT_VERSION,
            **asdict(replace(self, figures={})),
            "figures": {name: asdict(each) for name, each in self.figures.items()},
        }
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
        temporary.replace(path)

    @classmethod
    def load(cls, path: Path) -> Record:
        """Raises DataInvalid; FileNotFoundError where there is none."""
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if values.pop("format_version") != FORMAT_VERSION:
                raise DataInvalid(f"{path} is of another version")
            figures = {name: Figure(**each) for name, each in values["figures"].items()}
            return cls(**{**values, "figures": figures})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataInvalid(f"{path} is no record of a run: {error}") from error


class OutOfTime(Exception):
    """The time for this call is over; the run goes on from its last checkpoint."""


@dataclass(frozen=True)
class Run:
    """A cell with a seed."""

    study: Study
    cell: Cell
    seed: int

    @property
    def folder(self) -> Path:
        """Of its log, checkpoint and record."""
        return self.study.folder / f"{self.cell.name}-seed{self.seed}"

    @property
    def config(self) -> TrainConfig:
        """Raises RecipeInvalid."""
        return self.cell.config(self.study.recipe, self.seed)

    def record(self) -> Record | None:
        """The record of the finished run, None if it is not finished.

        Raises DataInvalid for a record of something else: its figures are no part of this study.
        """
        try:
            record = Record.load(self.folder / RECORD)
        except FileNotFoundError:
            return None
        identity = self._identity()
        different = [
            name for name in identity if record.identity.get(name) != identity[name]
        ]
        if different:
            raise DataInvalid(
                f"{self.folder / RECORD} is of another {', another '.join(different)}: "
                "choose another folder for this study"
            )
        return record

    def finish(
        self, deadline: float, clock: Clock = time.monotonic
    ) -> Iterator[StepLog]:
        """Trains to the end and writes the record; yields after each step.

        Raises OutOfTime before the first step after the deadline, and what `trainer.train` raises.
        """
        config = self.config
        settings = config.summary_config(SummaryConfig(base_name(self.study.model)))
        model = assemble(
            self.study.model,
            settings,
            placement=Placement(dtype=config.dtype),
            training=True,
            seed=self.seed,
        )
        steps = trainer.train(model, self._blend(config), config, self.folder)
        while True:
            # Before the step: one that began in time is finished.
            if clock() >= deadline:
                raise OutOfTime
            log = next(steps, None)
            if log is None:
                break
            yield log
        with torch.inference_mode():
            result = measured(model, config, self.study.held_out)
        self._save(result, model.device)

    def _save(self, result: Measured, device: torch.device) -> None:
        on_card = device.type == "cuda"
        Record(
            self.cell.name,
            self.seed,
            self._identity(),
            torch.cuda.get_device_name(device) if on_card else device.type,
            _hours(self.folder),
            result.values,
            result.figures,
        ).save(self.folder / RECORD)

    def _blend(self, config: TrainConfig) -> Blend:
        return Blend(
            self.study.data, self.study.weights, self.seed, augment=config.augment
        )

    def _identity(self) -> dict[str, Any]:
        held_out = self.study.held_out
        recipe = asdict(self.config)
        # How many processes prepare the samples changes nothing.
        del recipe["workers"]
        questions = sum(len(entry.questions) for entry in held_out)
        identity = {
            "base model": base_name(self.study.model),
            "recipe": recipe,
            "training data": self._blend(self.config).identity,
            "held-out data": {"images": len(held_out), "questions": questions},
        }
        # As the file will have it: tuples become lists.
        values: dict[str, Any] = json.loads(json.dumps(identity))
        return values


def _hours(folder: Path) -> float:
    """Of all steps in the log, also those that an interrupted call did and lost."""
    lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    seconds = [float(json.loads(line)["seconds"]) for line in lines]
    return round(sum(seconds) / 3600, 4)


def runs_of(study: Study, cells: Sequence[Cell], seeds: int) -> list[Run]:
    """All runs, every cell once before any a second time.

    Raises RecipeInvalid where the recipe fits no study.
    """
    runs = [Run(study, cell, seed) for seed in range(1, seeds + 1) for cell in cells]
    for run in runs:
        # Now, not hours later: a contradiction in a cell's recipe.
        _ = run.config
    return runs
