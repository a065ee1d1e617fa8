"""Wordings of questions about photographs, and the words in their gaps.

Gaps: {i} image, picture or photo; {s} who or what is asked about ("the dog"); {be}, {do} verbs
that agree with it; {g}, {h} what it does ("running"); {a}, {b} nouns with their article; {p} a
plural; {n} a noun; {c}, {d} colours; {k} color or colour. A capital letter ({S}) begins a sentence.
"""

from __future__ import annotations

import json
import random
from functools import cache
from pathlib import Path

from compressor.default_model.data.questions import IMAGE_WORDS, capitalised


@cache
def wordings() -> dict[str, list[str]]:
    """The wordings of each kind of question."""
    path = Path(__file__).with_name("caption_wordings.json")
    table: dict[str, list[str]] = json.loads(path.read_text(encoding="utf-8"))
    return table


def filled(template: str, rng: random.Random, **gaps: str) -> str:
    """A wording with its gaps filled."""
    words = {name.capitalize(): capitalised(text) for name, text in gaps.items()}
    words |= gaps
    words["k"] = rng.choice(("color", "colour"))
    return capitalised(template.format(i=rng.choice(IMAGE_WORDS), **words))
