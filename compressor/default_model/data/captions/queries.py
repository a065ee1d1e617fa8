"""What somebody might type to find a photograph: "dog snow", "two men", "red bicycle"."""

from __future__ import annotations

import random
from collections.abc import Iterator

from compressor.default_model.data.captions import words
from compressor.default_model.data.captions.facts import Subject
from compressor.default_model.data.captions.photograph import (
    Photograph,
    best_action,
    listed,
)
from compressor.default_model.data.captions.words import ANIMALS
from compressor.default_model.data.english import plural, with_article

_MIN_VOTES = 2


def queries(photo: Photograph, rng: random.Random) -> list[str]:
    """Short texts that fit the photograph; each once."""
    found: list[str] = []
    subjects = photo.facts.subjects
    sure = [subject for subject in subjects if subject.votes >= _MIN_VOTES]
    for subject in sure or subjects:
        found += _about(subject, photo, rng)
    for thing, colours in sorted(photo.facts.colours.items()):
        if thing not in ANIMALS:
            noun = f"{listed(colours)} {thing}"
            is_plural = thing in words.words("plural_things")
            found.append(noun if is_plural else rng.choice((noun, with_article(noun))))
    if photo.facts.sport:
        found.append(photo.facts.sport)
    if not found:
        nouns = sorted(photo.nouns.present)
        found += [rng.choice((noun, plural(noun))) for noun in nouns]
    return list(dict.fromkeys(found))


def _about(subject: Subject, photo: Photograph, rng: random.Random) -> Iterator[str]:
    name, place = subject.name, photo.facts.place
    if subject.is_plural:
        yield rng.choice((name, photo.numbered(subject.category) or name))
    else:
        yield rng.choice((name, with_article(name), plural(name)))
        coloured = photo.coloured(subject) or name
        yield rng.choice((coloured, coloured.partition(" ")[2]))
    if place:
        yield rng.choice((f"{name} {place}", f"{name} {place.split()[-1]}"))
    action = best_action(subject, rng)
    if action:
        yield f"{name} {action.text}"
        if not words.verbs()[action.gerund].needs_object:
            yield f"{name} {action.gerund}"
