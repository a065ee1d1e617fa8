"""Nouns that are there, and nouns that clearly are not, by the captions of a photograph.

"Is there a …?" is worth asking in vain where the noun would be likely: half of the absent nouns are
drawn by how often they stand beside those of the photograph. What captions often leave out (trees,
fences, hats) is called absent only in scenes that surely lack it.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from compressor.default_model.data.captions.facts import Facts
from compressor.default_model.data.captions.nouns import ASKED, NOUNS, mentioned
from compressor.default_model.data.captions.words import ANIMALS, PEOPLE, table

_MIN_VOTES = 2  # captions that must have a noun
_VEHICLES = frozenset({"car", "truck", "bus", "motorcycle", "train"})
_WORN = frozenset({"hat", "helmet", "shirt", "jacket", "dress", "backpack"})
_GAME_WORDS = frozenset({"game", "play", "playing", "plays", "fetch"})
_MOST_LIFT = 3.0
_LIKELY_SHARE = 0.5
MOST = 3  # present nouns of a photograph that are asked for
_ROUNDS = 6


@dataclass(frozen=True)
class Nouns:
    """Nouns of one photograph."""

    present: frozenset[str]
    absent: frozenset[str]
    mentioned: frozenset[str]  # by any caption


def mass_nouns() -> dict[str, frozenset[str]]:
    """ "snow" and the like, with the words by which they may be there."""
    return {noun: frozenset(said.split()) for noun, said in table("mass_nouns").items()}


def nouns_of(facts: Facts) -> Nouns:
    """What is there, and what is not, for sure."""
    per_caption = [mentioned(each.caption) for each in facts.parses]
    votes = Counter(noun for nouns in per_caption for noun in nouns)
    needed = min(_MIN_VOTES, len(per_caption))
    present = {noun for noun in ASKED if votes[noun] >= needed}
    present |= _general(facts, present, needed)
    possible: set[str] = set()
    for noun in votes:
        possible |= NOUNS[noun].compatible
    if facts.has_people:
        possible |= NOUNS["person"].compatible
    absent = {noun for noun in ASKED - possible if _is_lacking(noun, facts, votes)}
    for noun, said in mass_nouns().items():
        is_named = sum(noun in each.tokens for each in facts.parses) >= needed
        if is_named:
            present.add(noun)
        elif not said & facts.words and _is_scene_without(noun, facts):
            absent.add(noun)
    return Nouns(frozenset(present), frozenset(absent), frozenset(votes))


def _general(facts: Facts, present: set[str], needed: int) -> set[str]:
    """Hypernyms of what is there: a dog is an animal."""
    found = set()
    for noun, categories in (("person", PEOPLE), ("animal", ANIMALS)):
        votes = 0
        for each in facts.parses:
            votes += any(mention.category in categories for mention in each.mentions)
        if votes >= needed:
            found.add(noun)
    if present & _VEHICLES:
        found.add("vehicle")
    return found


def _is_lacking(noun: str, facts: Facts, votes: Mapping[str, int]) -> bool:
    """Whether captions would speak of the noun, or the scene surely lacks it."""
    if noun == "ball":
        return facts.sport is None and not facts.words & _GAME_WORDS
    if noun == "leash":
        return not votes.get("dog")
    if noun in _WORN and not facts.has_people:
        return True
    if noun in table("scenes_without"):
        return _is_scene_without(noun, facts)
    return noun not in _WORN


def _is_scene_without(noun: str, facts: Facts) -> bool:
    names = table("scenes_without")[noun].split()
    return facts.scene is not None and facts.scene.name in names


class Presence:
    """Draws nouns to ask for, so that each is asked for in vain as often as it is there.

    Otherwise a model learns that trees are mostly there and trains mostly are not, and looks no
    further.
    """

    def __init__(self, photographs: Sequence[Nouns]) -> None:
        self._count = max(1, len(photographs))
        self._single: Counter[str] = Counter()
        self._pairs: Counter[tuple[str, str]] = Counter()
        there: Counter[str] = Counter()
        lacking: Counter[str] = Counter()
        for nouns in photographs:
            seen = sorted(nouns.mentioned | nouns.present)
            self._single.update(seen)
            self._pairs.update(combinations(seen, 2))
            there.update(nouns.present)
            lacking.update(nouns.absent)
        # Nouns that are seldom surely absent (a person) are asked for less often where they are.
        self._present = {
            noun: min(1.0, (lacking[noun] + 1) / there[noun]) for noun in there
        }
        self._absent: dict[str, float] = dict.fromkeys(lacking, 1.0)
        self._balance(photographs)

    def _balance(self, photographs: Sequence[Nouns]) -> None:
        """Scales the weights of absent nouns until each is drawn as often as it is present."""
        wanted: dict[str, float] = defaultdict(float)
        choices: list[tuple[float, dict[str, float], dict[str, float]]] = []
        for nouns in photographs:
            expected = sum(self._present[noun] for noun in nouns.present)
            share = min(1.0, MOST / expected) if expected else 0.0
            for noun in nouns.present:
                wanted[noun] += self._present[noun] * share
            chance = dict.fromkeys(nouns.absent, 1.0)
            choices.append((expected * share, chance, self._likelihood(nouns)))
        for _ in range(_ROUNDS):
            drawn: dict[str, float] = defaultdict(float)
            for count, *modes in choices:
                for mode in modes:
                    weights = {noun: self._absent[noun] * mode[noun] for noun in mode}
                    total = sum(weights.values())
                    for noun, weight in weights.items():
                        drawn[noun] += count / 2 * weight / total if total else 0.0
            for noun, expected in drawn.items():
                # A noun that is nowhere present is asked for in vain now and then all the same.
                self._absent[noun] *= (wanted.get(noun, 0.0) + 1) / (expected + 1)

    def _likelihood(self, nouns: Nouns) -> dict[str, float]:
        """How likely each absent noun would be here: its lift beside the photograph's, squared."""
        return {noun: self._lift(noun, nouns) ** 2 for noun in sorted(nouns.absent)}

    def _lift(self, noun: str, nouns: Nouns) -> float:
        """How many times as often the noun stands beside the photograph's as elsewhere."""
        lifts = []
        for other in sorted(nouns.mentioned):
            first, second = sorted((noun, other))
            chance = self._single[noun] * self._single[other] / self._count
            if chance and first != second:
                lifts.append(self._pairs[first, second] / chance)
        mean = sum(lifts) / len(lifts) if lifts else 1.0
        return min(mean, _MOST_LIFT)

    def draw(self, nouns: Nouns, rng: random.Random) -> tuple[list[str], list[str]]:
        """At most MOST present nouns, and as many absent ones, every other one a likely one."""
        present = [
            noun for noun in sorted(nouns.present) if rng.random() < self._present[noun]
        ]
        rng.shuffle(present)
        absent: list[str] = []
        for _ in present[:MOST]:
            is_likely = rng.random() < _LIKELY_SHARE
            likelihood = self._likelihood(nouns) if is_likely else {}
            weights: dict[str, float] = {}
            for noun in sorted(nouns.absent - set(absent)):
                weights[noun] = self._absent[noun] * likelihood.get(noun, 1.0)
            if any(weights.values()):
                chosen = rng.choices(list(weights), list(weights.values()))
                absent += chosen
        return present[: len(absent)], absent
