"""Wordings of questions about photographs, and the words in their gaps.

Gaps: {i} image, picture or photo; {s} who or what is asked about ("the dog"); {be}, {do} verbs
that agree with it; {g}, {h} what it does ("running"); {a}, {b} nouns with their article; {p} a
plural; {n} a noun; {o} an ordinal; {c}, {d} colours; {k} color or colour. A capital letter ({S})
begins a sentence.
"""

from __future__ import annotations

import json
import random
from functools import cache
from pathlib import Path

from compressor.training.sample import QA

UNKNOWN = "I cannot tell from this picture."
UNREADABLE = "I cannot read text in this picture."
_IMAGE_WORDS = ("image", "picture", "photo")
_CARELESS_SHARE = 0.08  # of questions lack the capital, and as many the question mark


@cache
def wordings() -> dict[str, list[str]]:
    """The wordings of each kind of question."""
    path = Path(__file__).with_name("wordings.json")
    table: dict[str, list[str]] = json.loads(path.read_text(encoding="utf-8"))
    return table


def ask(
    kind: str, rng: random.Random, answer: str, wording: str = "", **gaps: str
) -> QA:
    """A question of a kind, in one of its wordings or in those of another kind, and its answer."""
    template = rng.choice(wordings()[wording or kind])
    return QA(filled(template, rng, **gaps), sentence(answer), kind)


def capitalised(text: str) -> str:
    """With a capital letter first, the rest as it is."""
    return text[:1].upper() + text[1:]


def filled(template: str, rng: random.Random, **gaps: str) -> str:
    """A wording with its gaps filled."""
    words = {name.capitalize(): capitalised(text) for name, text in gaps.items()}
    words |= gaps
    words["k"] = rng.choice(("color", "colour"))
    return capitalised(template.format(i=rng.choice(_IMAGE_WORDS), **words))


def sentence(text: str) -> str:
    """An answer: a capital first, one full stop behind."""
    return f"{capitalised(' '.join(text.split()).rstrip('.'))}."


def careless(question: str, rng: random.Random) -> str:
    """As people type: sometimes without the capital, sometimes without the question mark."""
    if rng.random() < _CARELESS_SHARE:
        question = question.rstrip("?.")
    if rng.random() < _CARELESS_SHARE:
        question = question[:1].lower() + question[1:]
    return question


def drawn(expected: float, rng: random.Random) -> int:
    """A whole number with this mean."""
    whole = int(expected)
    return whole + (rng.random() < expected - whole)
