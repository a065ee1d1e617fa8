"""Names of photographs' main objects (ImageNet's classes): their articles and hypernyms."""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path

from compressor.default_model.data.english import with_article

# The most common form is twice as likely.
LABEL_CAPTIONS = (
    "a photo of {}",
    "a photo of {}",
    "{}",
    "a picture of {}",
    "an image of {}",
)
_PLURALS = frozenset(
    {
        "binoculars", "sunglasses", "glasses", "bars", "jeans", "pants", "shorts", "trousers",
        "scissors", "maracas", "tights",
    }
)  # fmt: skip
# Hypernyms: everyday words for the animals among ImageNet's classes (dog, cat, bird). kinds.tsv has
# a class and its hypernym, "-" for an animal that has none; other classes are no animals.
_NONE = "-"
# Of the hypernyms asked for in vain: captions of photographs speak of dogs more than of all others.
_DOG_SHARE = 0.3
_SIMILAR = (
    {"dog", "wolf", "fox"},
    {"fish", "shark", "whale"},
    {"lizard", "snake"},
)


@cache
def _hypernyms() -> dict[str, str]:
    lines = (
        Path(__file__).with_name("kinds.tsv").read_text(encoding="utf-8").splitlines()
    )
    return dict(line.split("\t") for line in lines)


def hypernym(label: str) -> str | None:
    """ "dog" for "beagle"; None for a label that has none."""
    word = _hypernyms().get(label, _NONE)
    return None if word == _NONE else word


def is_animal(label: str) -> bool:
    """Whether the label's object is an animal."""
    return label in _hypernyms()


def absent_hypernym(label: str, rng: random.Random) -> str | None:
    """A hypernym that the label's object clearly does not have; None where that is not certain."""
    own = _hypernyms().get(label)
    if own == _NONE:
        return None
    ruled_out = {own, *label.lower().split()}
    for group in _SIMILAR:
        if own in group:
            ruled_out |= group
    possible = sorted(set(_hypernyms().values()) - {_NONE} - ruled_out)
    if "dog" in possible and rng.random() < _DOG_SHARE:
        return "dog"
    return rng.choice(possible)


def named(label: str) -> str:
    """A label with the article it needs: "a golden retriever", "an ox", "sunglasses", "jeans"."""
    if label.split()[-1].lower() in _PLURALS:
        return label
    return with_article(label)
