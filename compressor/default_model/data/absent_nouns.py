"""Nouns that are there, and nouns that clearly are not, by the captions of one photograph.

"Is there a …?" is worth asking in vain where the noun would be likely: nouns that often stand with
those of the photograph are drawn more often. What captions seldom mention (trees, fences, hats) is
called absent only in scenes that do not have it.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

from compressor.default_model.data import caption_words as lexicon
from compressor.default_model.data.caption_facts import CROWDS, OTHER_PEOPLE, Facts
from compressor.default_model.data.photos import ASKED, NOUNS, mentioned

_INDOORS = frozenset({"gym", "kitchen", "bathroom", "bedroom", "restaurant", "store", "room",
                      "train", "stage"})  # fmt: skip
_WILD = frozenset({"ocean", "forest", "mountain", "desert", "snow", "river"})
# What captions leave out although it may be there: the scenes that surely lack it.
_UNMENTIONED = {
    "tree": _INDOORS | {"ocean", "beach", "rink", "desert"},
    "rock": _INDOORS | {"pool", "court", "stadium", "rink"},
    "mountain": _INDOORS | {"pool", "court", "yard", "playground", "stadium", "rink", "street"},
    "fence": _INDOORS | {"ocean", "beach", "mountain", "forest"},
    "building": {"ocean", "forest", "mountain", "desert"},
    "bench": {"ocean", "mountain", "desert", "river", "snow"},
    "chair": {"ocean", "mountain", "forest", "desert", "snow", "river", "field"},
    "table": {"ocean", "mountain", "forest", "desert", "snow", "river", "field", "beach"},
    "flower": {"ocean", "beach", "snow", "pool", "court", "gym", "rink", "desert"},
    "flag": {"ocean", "forest", "pool", "desert", "bathroom", "kitchen", "bedroom"},
    "car": _WILD | _INDOORS | {"beach", "pool", "court", "field"},
    "truck": _WILD | _INDOORS | {"beach", "pool", "court", "field"},
    "vehicle": _WILD | _INDOORS | {"beach", "pool", "court"},
    "bicycle": _WILD - {"forest"} | _INDOORS | {"beach", "pool", "court", "field"},
    "swing": _WILD | _INDOORS | {"beach", "street", "pool", "court", "stadium", "track"},
    "slide": _WILD | _INDOORS | {"beach", "street", "court", "stadium", "track"},
    "beach": _INDOORS | {"street", "snow", "forest", "court", "track", "yard", "stadium", "field",
                         "rink"},
    "pool": _INDOORS | {"snow", "field", "forest", "street", "mountain", "desert", "court", "track",
                        "beach", "stadium"},
    "backpack": {"pool", "ocean", "court", "rink", "bathroom"},
    "umbrella": {"field", "snow", "court", "forest", "gym", "grass", "track", "mountain"},
    "helmet": {"beach", "pool", "kitchen", "bathroom", "bedroom", "restaurant", "store", "stage"},
}  # fmt: skip
_WORN = frozenset({"hat", "helmet", "shirt", "jacket", "dress", "backpack"})
_PERSONAL = frozenset({"man", "woman", "boy", "girl", "child", "baby", "person"})
# Mass nouns: their words, and the scenes that surely lack them.
MASS = {
    "snow": (
        frozenset({"snow", "snowy", "snow-covered", "snowbank", "ski", "skis", "skier", "sled",
                   "snowboard", "snowboarder", "ice", "icy", "frozen", "winter", "skiing"}),
        _INDOORS | {"beach", "pool", "ocean", "desert", "field", "grass", "playground", "court",
                    "park", "stadium", "yard"},
    ),
    "water": (
        frozenset({"water", "ocean", "sea", "lake", "pond", "river", "pool", "creek", "stream",
                   "wave", "waves", "puddle", "fountain", "sprinkler", "surf", "rapids", "hose",
                   "splash", "splashes", "splashing", "swim", "swims", "swimming", "wet", "beach",
                   "waterfall", "boat", "kayak", "canoe", "raft", "dock", "pier", "shore", "hydrant",
                   "surfboard", "surfer", "wakeboard", "tub", "bath", "rain", "wading", "bay"}),
        frozenset({"street", "court", "stadium", "field", "track", "forest", "desert", "gym", "yard",
                   "store", "room", "bedroom", "playground", "stage"}),
    ),
    "grass": (
        frozenset({"grass", "grassy", "lawn", "field", "yard", "backyard", "meadow", "park", "green",
                   "pasture", "weeds", "hill", "golf"}),
        _INDOORS | {"ocean", "pool", "snow", "beach", "desert", "rink"},
    ),
}  # fmt: skip
_LIKELY = 1.2  # times as often beside the photograph's nouns as elsewhere
_MIN_VOTES = 2  # captions that must have a noun


@dataclass(frozen=True)
class Nouns:
    """Nouns of one photograph."""

    present: frozenset[str]
    absent: frozenset[str]
    mentioned: frozenset[str]  # by any caption


def nouns_of(facts: Facts) -> Nouns:
    """What is there, and what is not, for sure."""
    per_caption = [mentioned(each.caption) for each in facts.parses]
    votes = Counter(noun for nouns in per_caption for noun in nouns)
    needed = min(_MIN_VOTES, len(per_caption))
    present = {noun for noun in ASKED if votes[noun] >= needed}
    possible: set[str] = set()
    for noun in votes:
        possible |= NOUNS[noun].compatible
    if _has_other_people(facts):
        possible |= NOUNS["person"].compatible
    absent = {noun for noun in ASKED - possible if _surely_lacks(noun, facts, votes)}
    for noun, (words, scenes) in MASS.items():
        if not words & facts.words:
            if facts.scene and facts.scene.name in scenes:
                absent.add(noun)
        elif sum(noun in each.tokens for each in facts.parses) >= needed:
            present.add(noun)
    return Nouns(frozenset(present), frozenset(absent), frozenset(votes))


def _has_other_people(facts: Facts) -> bool:
    if facts.words & (CROWDS | OTHER_PEOPLE):
        return True
    agents = [lexicon.agents().get(word) for word in facts.words]
    return any(agent is not None and agent.category == "person" for agent in agents)


def _surely_lacks(noun: str, facts: Facts, votes: Counter[str]) -> bool:
    has_people = _has_other_people(facts) or any(votes[each] for each in _PERSONAL)
    if noun == "ball":
        return facts.sport is None and not facts.words & {
            "game",
            "play",
            "playing",
            "plays",
            "fetch",
        }
    if noun == "leash":
        return not votes["dog"]
    if noun in _WORN and not has_people:
        return True
    if noun in _WORN and noun not in _UNMENTIONED:
        return False
    if noun in _UNMENTIONED:
        return facts.scene is not None and facts.scene.name in _UNMENTIONED[noun]
    return True


class Cooccurrence:
    """How often nouns stand together in the photographs of a collection."""

    def __init__(self, photographs: Sequence[Nouns]) -> None:
        self._count = max(1, len(photographs))
        self._single: Counter[str] = Counter()
        self._pairs: Counter[tuple[str, str]] = Counter()
        self._asked: Counter[str] = Counter()
        self._lacking: Counter[str] = Counter()
        for nouns in photographs:
            seen = sorted(nouns.mentioned | nouns.present)
            self._single.update(seen)
            self._pairs.update(combinations(seen, 2))
            self._asked.update(nouns.present)
            self._lacking.update(nouns.absent)

    def lift(self, noun: str, others: Iterable[str]) -> float:
        """How many times as often the noun stands beside these as it does elsewhere."""
        lifts = []
        for other in others:
            first, second = sorted((noun, other))
            expected = self._single[noun] * self._single[other] / self._count
            if expected and first != second:
                lifts.append(self._pairs[first, second] / expected)
        return sum(lifts) / len(lifts) if lifts else 0.0

    def absent(self, nouns: Nouns, rng: random.Random, likely: bool) -> str | None:
        """An absent noun, drawn so that each is asked in vain as often as it is there."""
        weights: dict[str, float] = {}
        for noun in sorted(nouns.absent):
            balance = (
                (self._asked[noun] + 1) / self._lacking[noun]
                if self._lacking[noun]
                else 0.0
            )
            lift = self.lift(noun, nouns.mentioned) if likely else 1.0
            if likely and lift < _LIKELY:
                continue
            weights[noun] = balance * min(lift, 3.0)
        if not any(weights.values()):
            return self.absent(nouns, rng, likely=False) if likely else None
        return rng.choices(list(weights), list(weights.values()))[0]
