"""Questions about a photograph as people ask them, answered from its human captions.

Answers are short and true, the key word first, a full stop behind. Each kind has many wordings
(wordings.json) and a share of a photograph's questions.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from compressor.default_model.data.captions import about_agents, about_things
from compressor.default_model.data.captions.photograph import Photograph
from compressor.default_model.data.captions.presence import Presence, mass_nouns
from compressor.default_model.data.captions.wordings import (
    UNKNOWN,
    UNREADABLE,
    ask,
    careless,
    drawn,
)
from compressor.default_model.data.captions.words import ANIMALS, PEOPLE, words
from compressor.default_model.data.english import plural, with_article
from compressor.training.sample import QA

_UNKNOWN_SHARE = 0.05  # of the questions
_TEXT_SHARE = 0.025
_PEOPLE_SHARE = 0.7  # "Are there any people?" rather than "Is there a person?"

Maker = Callable[[Photograph, random.Random], Iterator[QA]]
# What makes a kind of question, and how many of them a photograph has at most.
_KINDS: tuple[tuple[Maker, int], ...] = (
    (about_things.describe, 2),
    (about_things.describe_otherwise, 1),
    (about_things.what_is_it, 1),
    (about_agents.who, 1),
    (about_agents.animals, 1),
    (about_agents.doing, 2),
    (about_agents.doing_described, 2),
    (about_agents.who_does, 1),
    (about_agents.is_doing, 1),
    (about_agents.choice_doing, 1),
    (about_things.count, 3),
    (about_things.count_none, 1),
    (about_things.colour, 2),
    (about_things.is_colour, 1),
    (about_things.choice_colour, 1),
    (about_agents.wearing, 1),
    (about_agents.holding, 1),
    (about_agents.object_of, 1),
    (about_things.place, 1),
    (about_agents.where, 1),
    (about_things.in_or_out, 1),
    (about_things.season, 1),
    (about_things.sport, 1),
    (about_things.time, 1),
    (about_things.choice, 1),
)


def questions(photo: Photograph, presence: Presence, rng: random.Random) -> list[QA]:
    """About 20 independent questions."""
    asked: list[QA] = []
    for make, most in _KINDS:
        candidates = list(make(photo, rng))
        asked += rng.sample(candidates, min(most, len(candidates)))
    asked += _existence(photo, presence, rng)
    expected = len(asked)
    unknown = list(_unknown(photo, rng))
    asked += rng.sample(
        unknown, min(len(unknown), drawn(_UNKNOWN_SHARE * expected, rng))
    )
    for _ in range(drawn(_TEXT_SHARE * expected, rng)):
        question, answer = rng.choice(_text_questions())
        asked.append(QA(question, answer, "text"))
    unique = {qa.question: qa for qa in asked}
    return [
        QA(careless(qa.question, rng), qa.answer, qa.kind) for qa in unique.values()
    ]


def _existence(photo: Photograph, presence: Presence, rng: random.Random) -> list[QA]:
    present, absent = presence.draw(photo.nouns, rng)
    asked = [_exists(noun, "Yes", rng) for noun in present]
    return asked + [_exists(noun, "No", rng) for noun in absent]


def _exists(noun: str, answer: str, rng: random.Random) -> QA:
    if noun in mass_nouns():
        return ask("exists", rng, answer, "exists_mass", a=noun)
    if noun == "person" and rng.random() < _PEOPLE_SHARE:
        return ask("exists", rng, answer, "exists_people")
    return ask("exists", rng, answer, a=with_article(noun), p=plural(noun))


def _unknown(photo: Photograph, rng: random.Random) -> Iterator[QA]:
    """What no caption says."""
    yield ask("read_text", rng, UNREADABLE)
    yield ask("cannot_other", rng, UNKNOWN)
    for subject in photo.facts.subjects:
        if subject.is_plural:
            continue
        name = f"the {subject.name}"
        yield ask("cannot_name", rng, UNKNOWN, s=name)
        yield ask("cannot_age", rng, UNKNOWN, s=name)
        if subject.category in PEOPLE:
            yield ask("cannot_person", rng, UNKNOWN, s=name)
    for thing in sorted(photo.facts.colours):
        if thing not in ANIMALS and thing not in words("plural_things"):
            yield ask("cannot_brand", rng, UNKNOWN, s=f"the {thing}")


@cache
def _text_questions() -> list[tuple[str, str]]:
    path = Path(__file__).with_name("text_questions.tsv")
    pairs = []
    for line in path.read_text(encoding="utf-8").splitlines():
        question, answer = line.split("\t")
        pairs.append((question, answer))
    return pairs
