"""What of a data set can be used: the rest is counted by reason, and too much of it stops the run.

Knows nothing of formats.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from compressor.errors import DataInvalid
from compressor.training.data.photos import Photo

MOST_UNUSABLE_SHARE = 0.1


@dataclass
class Usable:
    """Counts what is read of one data set."""

    used: int = 0
    skipped: Counter[str] = field(default_factory=Counter)  # by reason

    def skip(self, reason: str) -> None:
        """Notes one that cannot be used."""
        self.skipped[reason] += 1

    def finish(self, source: Path) -> None:
        """Raises DataInvalid when nothing was usable, or too much was not."""
        unusable = self.skipped.total()
        if not self.used or unusable > MOST_UNUSABLE_SHARE * (self.used + unusable):
            told = ", ".join(f"{count} with {reason}" for reason, count in self.skipped.items()) or "there are none"
            raise DataInvalid(f"{source}: {self.used} of {self.used + unusable} can be used: {told}")


def read_json(path: Path) -> Any:
    """The file's content. Raises DataInvalid."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataInvalid(f"{path}: {error}") from error


def read_lines(path: Path, usable: Usable) -> Iterator[dict[str, Any]]:
    """The objects of a JSON-lines file; broken lines are skipped and counted. Raises DataInvalid."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataInvalid(f"{path}: {error}") from error
    for line in filter(str.strip, lines):
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        if isinstance(entry, dict):
            yield entry
        else:
            usable.skip("a broken line")


def opener(path: Path) -> Callable[[], Image.Image]:
    """Opens the picture as RGB, the right way up, when it is called. It raises DataInvalid."""
    return Photo(path, None, ()).open
