"""Counts what of a data set is usable; too much that is not stops the run."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compressor.errors import DataInvalid
from compressor.training.datasets import check_usable


@dataclass
class Usable:
    """Counts what is read of one data set."""

    used: int = 0
    skipped: Counter[str] = field(default_factory=Counter)  # by reason

    def skip(self, reason: str) -> None:
        """Counts an entry that is not usable."""
        self.skipped[reason] += 1

    def finish(self, source: Path) -> None:
        """Raises DataInvalid when nothing was usable, or too much was not."""
        # A few broken entries are normal; many mean a wrong folder or format.
        try:
            check_usable(self.used, self.skipped)
        except DataInvalid as error:
            raise DataInvalid(f"{source}: {error}") from error


def read_json(path: Path) -> Any:
    """The file's content. Raises DataInvalid."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataInvalid(f"{path}: {error}") from error


def read_lines(path: Path, usable: Usable) -> Iterator[dict[str, Any]]:
    """The objects of a JSON-lines file; skips and counts broken lines. Raises DataInvalid."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataInvalid(f"{path}: {error}") from error
    for line in filter(str.strip, lines):
        # One broken line of thousands is no reason to stop; `finish` judges their share.
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        if isinstance(entry, dict):
            yield entry
        else:
            usable.skip("a broken line")
