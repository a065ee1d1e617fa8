"""A captioned photograph as questions are made from it, and how to name what it shows."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from compressor.default_model.data.captions.actions import Action
from compressor.default_model.data.captions.facts import Facts, Subject, facts_of
from compressor.default_model.data.captions.numbers import MANY, SEVERAL
from compressor.default_model.data.captions.presence import Nouns, nouns_of
from compressor.default_model.data.captions.words import ANIMALS
from compressor.default_model.data.english import NUMBERS, plural, with_article

# Said of whom another word would name better.
GENERAL = frozenset({"person", "child"})
# Said of almost anybody: another action tells more.
_VAGUE = frozenset({"smile", "look", "get", "face"})


@dataclass(frozen=True)
class Photograph:
    """A captioned photograph."""

    facts: Facts
    nouns: Nouns
    captions: tuple[str, ...]  # tidied

    @classmethod
    def of(cls, captions: Sequence[str]) -> Photograph:
        """Reads the captions."""
        facts = facts_of(captions)
        tidy = tuple(each.caption for each in facts.parses if each.caption)
        return cls(facts, nouns_of(facts), tidy)

    @property
    def main_subject(self) -> Subject | None:
        """The one most captions speak of, by the word that says most."""
        subjects = self.facts.subjects
        named = [each for each in subjects if each.category not in GENERAL]
        return max(
            named or subjects,
            key=lambda each: (each.votes, len(each.actions)),
            default=None,
        )

    def numbered(self, category: str) -> str | None:
        """ "two dogs", "several people"; None for one, or where the number is not known."""
        number = self.facts.counts.get(category)
        if number is None or number == 1:
            return None
        return f"{number_word(number)} {plural(category)}"

    def named(self, subject: Subject) -> str | None:
        """ "a dog", "two dogs"; None for a plural without a number."""
        if subject.is_plural:
            return self.numbered(subject.category)
        return with_article(subject.name)

    def coloured(self, subject: Subject) -> str | None:
        """ "a brown dog"; as `named` where no colour is known."""
        colours = self.facts.colours.get(subject.category, ())
        if subject.is_plural or subject.category not in ANIMALS or not colours:
            return self.named(subject)
        return with_article(f"{listed(colours)} {subject.name}")


def number_word(number: int) -> str:
    """A number, "several" or "many"."""
    return {SEVERAL: "several", MANY: "many"}.get(number) or NUMBERS[number]


def listed(texts: Sequence[str]) -> str:
    """ "black, white and brown"."""
    if len(texts) < 3:
        return " and ".join(texts)
    return f"{', '.join(texts[:-1])} and {texts[-1]}"


def agreement(subject: Subject) -> dict[str, str]:
    """The gaps of a wording that speaks of a subject."""
    is_plural = subject.is_plural
    return {
        "s": f"the {subject.name}",
        "be": "are" if is_plural else "is",
        "do": "do" if is_plural else "does",
    }


def best_action(subject: Subject, rng: random.Random) -> Action | None:
    """One of the actions whose verb most captions have."""
    telling = [action for action in subject.actions if action.verb not in _VAGUE]
    actions = telling or subject.actions
    votes = Counter(action.verb for action in actions)
    most = max(votes.values(), default=0)
    return (
        rng.choice([action for action in actions if votes[action.verb] == most])
        if most
        else None
    )
