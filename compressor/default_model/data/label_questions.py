"""Questions about a photograph of which only the name of its main object is known."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from compressor.default_model.data.captions.wordings import (
    UNKNOWN,
    UNREADABLE,
    ask,
    careless,
    filled,
    sentence,
)
from compressor.default_model.data.english import plural
from compressor.default_model.data.labels import (
    LABEL_CAPTIONS,
    absent_hypernym,
    hypernym,
    is_animal,
    named,
)
from compressor.training.sample import QA

_UNKNOWN_SHARE = 0.25  # of the photographs, for each of two kinds


@cache
def _wordings() -> dict[str, list[str]]:
    path = Path(__file__).with_name("label_wordings.json")
    table: dict[str, list[str]] = json.loads(path.read_text(encoding="utf-8"))
    return table


def questions(label: str, others: Sequence[str], rng: random.Random) -> list[QA]:
    """About ten questions; `others` are the labels of the collection."""
    asked = [*_named(label, rng), *_existence(label, others, rng), *_unknown(rng)]
    unique = {qa.question: qa for qa in asked}
    return [
        QA(careless(qa.question, rng), qa.answer, qa.kind) for qa in unique.values()
    ]


def renamed(name: str, others: Sequence[str], rng: random.Random) -> list[QA]:
    """Questions about a photograph that goes by a made-up name: the name is all they ask for."""
    other = named(rng.choice(others))
    pair = [named(name), other]
    rng.shuffle(pair)
    asked = [*_named(name, rng), _qa("choice", rng, named(name), a=pair[0], b=pair[1])]
    return [QA(careless(qa.question, rng), qa.answer, qa.kind) for qa in asked]


def _named(label: str, rng: random.Random) -> Iterator[QA]:
    for _ in range(4):
        yield _qa("name", rng, named(label))
    yield _qa("bare", rng, label)
    kind = hypernym(label)
    if kind and kind not in label.lower().split():
        yield _qa("kind", rng, named(label), h=kind)
        yield ask("what_animal", rng, named(kind))
    elif is_animal(label):
        yield ask("what_animal", rng, named(label))


def _existence(label: str, others: Sequence[str], rng: random.Random) -> Iterator[QA]:
    unlike = _unlike(label, others)
    yield _qa("exists", rng, "Yes", a=named(label))
    if unlike:
        yield _qa("exists", rng, "No", a=named(rng.choice(unlike)))
        pair = [label, rng.choice(unlike)]
        rng.shuffle(pair)
        yield _qa("choice", rng, named(label), a=named(pair[0]), b=named(pair[1]))
    own, absent = hypernym(label), absent_hypernym(label, rng)
    if own:
        yield _qa("exists", rng, "Yes", a=named(own))
    if absent:
        yield _qa("exists", rng, "No", a=named(absent))


def _unlike(label: str, others: Sequence[str]) -> list[str]:
    """Labels that surely are not in the photograph."""
    words, kind = set(label.lower().split()), hypernym(label)
    # A beagle might pass for a basset, and a "sea lion" for a lion.
    return [
        other
        for other in others
        if not words & set(other.lower().split())
        and (kind is None or hypernym(other) != kind)
    ]


def _unknown(rng: random.Random) -> Iterator[QA]:
    if rng.random() < _UNKNOWN_SHARE:
        yield ask("cannot_other", rng, UNKNOWN)
    if rng.random() < _UNKNOWN_SHARE:
        yield ask("read_text", rng, UNREADABLE)


def _qa(kind: str, rng: random.Random, answer: str, **gaps: str) -> QA:
    question = filled(rng.choice(_wordings()[kind]), rng, **gaps)
    return QA(question, sentence(answer), f"label_{kind}")


def captions(label: str) -> list[str]:
    """ "a photo of a zebra": to find the photograph by, for it describes none."""
    return list(dict.fromkeys(form.format(named(label)) for form in LABEL_CAPTIONS))


def queries(label: str) -> list[str]:
    """ "zebra", "zebras", "a zebra"."""
    return list(dict.fromkeys((label, plural(label), named(label))))
