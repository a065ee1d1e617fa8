"""One image of people's own data and what is said of it.

Knows nothing of files' formats.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image


@dataclass(frozen=True)
class Entry:
    """Pixels are read when they are asked for."""

    open: Callable[[], Image.Image]
    conversations: tuple[tuple[str, str], ...]  # question, answer
    captions: tuple[str, ...]
