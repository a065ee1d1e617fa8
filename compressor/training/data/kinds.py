"""Everyday words for the animals among ImageNet's classes: which are dogs, cats, birds.

Knows nothing of images. kinds.tsv: a class and its kind, "-" for an animal of none of them; other classes are no
animals.
"""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path

_NONE = "-"
_DOG_SHARE = 0.3  # of the kinds asked for in vain: captions of photographs speak of dogs more than of all others
_ALIKE = ({"dog", "wolf", "fox"}, {"fish", "shark", "whale"}, {"lizard", "snake"})


@cache
def _kinds() -> dict[str, str]:
    lines = Path(__file__).with_name("kinds.tsv").read_text(encoding="utf-8").splitlines()
    return dict(line.split("\t") for line in lines)


def kind_of(label: str) -> str | None:
    """ "dog" for "beagle"; None for what is of no such kind."""
    kind = _kinds().get(label, _NONE)
    return None if kind == _NONE else kind


def absent_kind(label: str, rng: random.Random) -> str | None:
    """A kind that what the label names is surely not of; None where that cannot be told."""
    own = _kinds().get(label)
    if own == _NONE:
        return None
    ruled_out = {own}.union(*(group for group in _ALIKE if own in group)) | set(label.lower().split())
    possible = sorted(set(_kinds().values()) - {_NONE} - ruled_out)
    return "dog" if "dog" in possible and rng.random() < _DOG_SHARE else rng.choice(possible)
