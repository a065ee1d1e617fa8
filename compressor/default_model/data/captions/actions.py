"""Reads what somebody does: a verb with its object and places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from compressor.default_model.data.captions.phrases import (
    is_noun,
    noun_phrase,
    verb_at,
    with_of,
    with_second,
)
from compressor.default_model.data.captions.words import (
    ADVERBS,
    CLOTHING,
    COLOURS,
    DETERMINERS,
    INTRANSITIVE,
    PARTICIPLES,
    PARTICLES,
    PREPOSITIONS,
    PRONOUNS,
    verbs,
)

_MAX_PLACES = 2  # "in the snow", "on a beach"
_MAX_WORDS = 10
_WITH_VERBS = frozenset(
    {"play", "wrestle", "fight", "interact", "dance", "tug", "race"}
)
_SKIPPED = frozenset({"without", "during", "like", "amid", "amidst", "about"})
_FIRST_OF_TWO = frozenset({"out", "off", "up", "down", "in", "next"})  # "out of"
_SECOND_OF_TWO = frozenset({"of", "from", "to", "into", "towards", "on"})


@dataclass(frozen=True)
class Action:
    """What somebody does: "running through the snow"."""

    verb: str  # its base
    gerund: str
    text: str  # with object and places
    object: str = ""  # "a red ball"
    places: tuple[tuple[str, str], ...] = ()  # ("through", "the snow")


def action_at(tokens: Sequence[str], place: int) -> tuple[Action | None, int]:
    """The action whose verb is at `place`, and where it ends; None where it does not parse."""
    verb = verbs()[tokens[place]]
    end = place + 1
    if verb.needs_infinitive:
        return _infinitive(tokens, place)
    particles, end = _particles(tokens, end)
    thing, end = _object(tokens, end)
    if thing is None or (thing and verb.base in INTRANSITIVE):
        return None, end
    spoken = [verb.gerund, *particles, *thing]
    if thing:
        particles, end = _particles(tokens, end)
        spoken += particles
    places: list[tuple[str, str]] = []
    while len(places) < _MAX_PLACES:
        found, stop = _place(tokens, end, verb.base, bool(thing))
        if found is None or len(spoken) + stop - end > _MAX_WORDS:
            break
        places.append(found)
        spoken += tokens[end:stop]
        end = stop
    if verb.needs_object and not thing and not places:
        return None, end
    text = " ".join(spoken)
    return Action(verb.base, verb.gerund, text, " ".join(thing), tuple(places)), end


def _infinitive(tokens: Sequence[str], place: int) -> tuple[Action | None, int]:
    """ "trying to catch a ball"."""
    verb = verbs()[tokens[place]]
    following = verb_at(tokens, place + 2)
    if tokens[place + 1 : place + 2] != ["to"] or following is None:
        return None, place + 1
    inner, end = action_at(tokens, place + 2)
    if inner is None or following.form != "base":
        return None, end
    rest = inner.text.removeprefix(inner.gerund)
    text = f"{verb.gerund} to {following.base}{rest}"
    return Action(verb.base, verb.gerund, text, inner.object, inner.places), end


def _particles(tokens: Sequence[str], place: int) -> tuple[list[str], int]:
    found = []
    while place < len(tokens):
        is_particle = tokens[place] in PARTICLES and not _begins_place(tokens, place)
        if is_particle:
            found.append(tokens[place])
        elif tokens[place] not in ADVERBS:
            break
        place += 1
    return found, place


def _begins_place(tokens: Sequence[str], place: int) -> bool:
    """ "down the hill", but not "down" alone in "sits down"."""
    behind = tokens[place + 1 : place + 2]
    if tokens[place] not in PREPOSITIONS or not behind:
        return False
    return noun_phrase(tokens, place + 1) > place + 1 or behind[0] in _SECOND_OF_TWO


def _object(tokens: Sequence[str], place: int) -> tuple[Sequence[str] | None, int]:
    """The object's words, none where there is no object, None where it is not understood."""
    end = noun_phrase(tokens, place)
    if end > place:
        end = with_of(tokens, with_second(tokens, end))
        return tokens[place:end], end
    token = tokens[place] if place < len(tokens) else "."
    if token in PRONOUNS or token in DETERMINERS:
        return None, place
    is_word = is_noun(token) and token not in PARTICIPLES
    if is_word and verb_at(tokens, place) is None:
        return None, place
    return (), place


def _place(
    tokens: Sequence[str], start: int, verb: str, has_object: bool
) -> tuple[tuple[str, str] | None, int]:
    """A preposition and its noun phrase, if they may stay in the action."""
    if start >= len(tokens) or tokens[start] not in PREPOSITIONS:
        return None, start
    preposition, begin = tokens[start], start + 1
    second = tokens[begin] if begin < len(tokens) else "."
    if preposition in _FIRST_OF_TWO and second in _SECOND_OF_TWO:
        preposition, begin = f"{preposition} {second}", begin + 1
    if not _is_kept(verb, preposition, tokens, begin, has_object):
        return None, start
    end = noun_phrase(tokens, begin)
    if end == begin:
        return None, start
    end = with_of(tokens, end)
    return (preposition, " ".join(tokens[begin:end])), end


def _is_kept(
    verb: str, preposition: str, tokens: Sequence[str], begin: int, has_object: bool
) -> bool:
    if preposition in _SKIPPED:
        return False
    if preposition == "with":
        return verb in _WITH_VERBS and not has_object
    if preposition == "to":
        # "running to catch a ball" tells a purpose, not a place.
        following = verb_at(tokens, begin)
        return following is None or following.form != "base"
    if preposition == "in":
        end = noun_phrase(tokens, begin, may_be_colour=True)
        return end > begin and tokens[end - 1] not in CLOTHING | COLOURS.keys()
    return True
