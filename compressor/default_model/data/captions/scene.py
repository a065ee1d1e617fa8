"""Where and when a photograph was taken, and what sport it shows, by its captions."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from compressor.default_model.data.captions.parser import Parse
from compressor.default_model.data.captions.words import ANIMALS, PEOPLE, table, words

_MIN_VOTES = 2
_INTO = frozenset({"in", "into", "through", "under", "on", "across", "from", "over"})
_PARKS = (
    (re.compile(r"\bskate(?:board)? park\b"), "skatepark"),
    (re.compile(r"\b(?:amusement|theme|water) park\b"), "amusement-park"),
    (re.compile(r"\b(?:car|bike|trailer|dirt|bmx) park\b"), ""),
)
_CLIMBING = re.compile(
    r"\b(?:rock|mountain) climb\w*|climb\w* (?:a|the|up) .*?(?:rock|cliff|climbing wall)"
)
_NIGHT = re.compile(r"\b(?:night|nighttime|at dark|in the dark)\b")
_DUSK = re.compile(r"\b(?:sunset|dusk|evening)\b")
_DAY = re.compile(
    r"\b(?:sunny|blue sky|sunlight|daytime|sunshine|bright day|clear day|in the sun)\b"
)
_DARK = re.compile(r"\b(?:dark|lights|sun sets|silhouette\w*)\b")
# Photographs of these are taken by day unless a caption says otherwise.
_DAY_SCENES = frozenset(
    {"beach", "snow", "field", "grass", "mountain", "forest", "ocean", "desert", "yard", "park"}
)  # fmt: skip


@dataclass(frozen=True)
class Scene:
    """A kind of place."""

    name: str
    phrase: str  # "in the ocean"
    beside: str  # "by the ocean"; the phrase where there is no difference
    outdoors: bool | None
    words: frozenset[str]


@cache
def scenes() -> tuple[Scene, ...]:
    """Kinds of places; an earlier one says more than a later one."""
    return tuple(
        Scene(
            entry["name"],
            entry["phrase"],
            entry.get("beside", entry["phrase"]),
            entry.get("outdoors"),
            frozenset(entry["words"].split()),
        )
        for entry in table("scenes")
    )


def scene_of(parses: Sequence[Parse]) -> tuple[Scene, str] | None:
    """The place that captions agree on, and how to say that something is there."""
    votes: Counter[str] = Counter()
    inside: Counter[str] = Counter()
    for each in parses:
        places = [(preposition, _places(phrase)) for preposition, phrase in each.places]
        for scene in scenes():
            prepositions = [
                preposition for preposition, said in places if scene.words & said
            ]
            votes[scene.name] += bool(prepositions)
            inside[scene.name] += bool(_INTO & set(prepositions))
    most = max(votes.values(), default=0)
    for scene in scenes():
        if votes[scene.name] >= max(_MIN_VOTES, most - 1):
            is_inside = inside[scene.name] * 2 > votes[scene.name]
            return scene, scene.phrase if is_inside else scene.beside
    return None


def _places(phrase: str) -> set[str]:
    for pattern, name in _PARKS:
        phrase = pattern.sub(name, phrase)
    return set(phrase.split())


def is_outdoors(scene: Scene | None, parses: Sequence[Parse]) -> bool | None:
    """Whether it is outdoors; None where captions do not say, or not alike."""
    indoor = outdoor = 0
    for each in parses:
        # A jungle gym stands on a playground.
        is_gym = "jungle" not in each.tokens
        indoor += is_gym and bool(words("indoor_words") & set(each.tokens))
        outdoor += bool(words("outdoor_words") & set(each.tokens))
    if scene is not None and scene.outdoors is not None:
        contradicted = indoor if scene.outdoors else outdoor
        return None if contradicted else scene.outdoors
    if outdoor and not indoor:
        return True
    return False if indoor and not outdoor else None


def sport_of(parses: Sequence[Parse]) -> str | None:
    """The sport that two captions name and none contradicts."""
    sports = {
        word: sport
        for sport, said in table("sports_by_word").items()
        for word in said.split()
    }
    votes: Counter[str] = Counter()
    for each in parses:
        named = {sports[token] for token in each.tokens if token in sports}
        if _CLIMBING.search(" ".join(each.tokens)):
            named.add("rock climbing")
        votes.update(named)
    categories = {mention.category for each in parses for mention in each.mentions}
    # A dog with a football plays no football.
    has_players = bool(categories & PEOPLE) and not categories & (ANIMALS - {"horse"})
    if len(votes) != 1 or not has_players:
        return None
    sport, count = next(iter(votes.items()))
    return sport if count >= _MIN_VOTES else None


def time_of(
    parses: Sequence[Parse], scene: Scene | None, outdoors: bool | None
) -> str | None:
    """ "day", "night" or "evening", where it is said or clear."""
    text = " ".join(token for each in parses for token in each.tokens)
    is_day = bool(_DAY.search(text))
    if _NIGHT.search(text):
        return None if is_day else "night"
    if _DUSK.search(text):
        return "evening"
    if _DARK.search(text) or not outdoors:
        return None
    is_day = is_day or (scene is not None and scene.name in _DAY_SCENES)
    return "day" if is_day else None
