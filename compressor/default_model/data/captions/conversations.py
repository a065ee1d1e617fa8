"""Conversations about a photograph, whose later turns speak of "it", "he" or "they"."""

from __future__ import annotations

import random
from collections.abc import Iterator

from compressor.default_model.data.captions.facts import Subject
from compressor.default_model.data.captions.photograph import (
    Photograph,
    best_action,
    listed,
)
from compressor.default_model.data.captions.wordings import ask, sentence
from compressor.default_model.data.captions.words import ANIMALS, PEOPLE
from compressor.default_model.data.english import plural, with_article
from compressor.training.sample import QA

_KIND = "conversation"
_PRONOUNS = {"man": "he", "boy": "he", "woman": "she", "girl": "she"}
_MAX_FOLLOW_UPS = 3


def conversations(photo: Photograph, rng: random.Random) -> list[list[QA]]:
    """A conversation of two to four turns about each subject."""
    found = []
    for subject in photo.facts.subjects:
        opening = list(_opening(photo, subject, rng))
        follow_ups = list(_follow_ups(photo, subject, rng))
        if opening and follow_ups:
            length = rng.randint(1, min(_MAX_FOLLOW_UPS, len(follow_ups)))
            found.append(opening + rng.sample(follow_ups, length))
    return found


def _opening(photo: Photograph, subject: Subject, rng: random.Random) -> Iterator[QA]:
    if subject.is_plural:
        numbered = photo.numbered(subject.category)
        if numbered is None:
            return
        number, noun = numbered.split()[0], plural(subject.category)
        if rng.random() < 0.5:
            yield ask(_KIND, rng, number, "count", p=noun)
        else:
            yield QA(f"Are there any {noun}?", "Yes.", _KIND)
            follow = rng.choice(
                ("How many?", "How many are there?", "And how many are there?")
            )
            yield QA(follow, sentence(number), _KIND)
        return
    named = with_article(subject.name)
    if subject.category in ANIMALS:
        yield ask(_KIND, rng, named, "what_animal")
    elif photo.facts.counts.get("person") == 1:
        yield ask(_KIND, rng, named, "who")
    else:
        yield ask(_KIND, rng, "Yes", "exists", a=named, p=plural(subject.name))


def _pronoun(subject: Subject) -> str:
    if subject.is_plural:
        return "they"
    if subject.category in ANIMALS:
        return "it"
    return _PRONOUNS.get(subject.category, f"the {subject.name}")


def _follow_ups(
    photo: Photograph, subject: Subject, rng: random.Random
) -> Iterator[QA]:
    they, facts = _pronoun(subject), photo.facts
    be = "are" if subject.is_plural else "is"

    def turn(answer: str, *wordings: str) -> QA:
        return QA(rng.choice(wordings), sentence(answer), _KIND)

    action = best_action(subject, rng)
    if action:
        yield turn(
            action.text, f"What {be} {they} doing?", f"And what {be} {they} doing?"
        )
    colours = facts.colours.get(subject.category)
    if colours and not subject.is_plural and subject.category in ANIMALS:
        yield turn(
            listed(colours),
            "What colour is it?",
            "What color is it?",
            "And its colour?",
        )
    if subject.worn and not subject.is_plural and subject.category in PEOPLE:
        worn = rng.choice(subject.worn)
        yield turn(worn, f"What {be} {they} wearing?", f"And what {be} {they} wearing?")
    if facts.place:
        where = (f"Where {be} {they}?", f"And where {be} {they}?", "Where is that?")
        yield turn(facts.place, *where)
    if facts.outdoors is not None:
        answer = "Outdoors" if facts.outdoors else "Indoors"
        yield turn(answer, "Is it indoors or outdoors?", "Indoors or outdoors?")
    if photo.captions:
        caption = rng.choice(photo.captions)
        yield turn(
            caption, "Describe the whole picture.", "Now describe it in one sentence."
        )
