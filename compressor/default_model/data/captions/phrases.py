"""Where phrases begin and end in a caption's tokens."""

from __future__ import annotations

from collections.abc import Sequence

from compressor.default_model.data.captions import words
from compressor.default_model.data.captions.words import (
    ADJECTIVES,
    ADVERBS,
    COLOURS,
    DETERMINERS,
    ENDS,
    NUMBERS,
    PARTICIPLES,
    PARTICLES,
    PREPOSITIONS,
    PRONOUNS,
    Verb,
)

_MATERIALS = frozenset({"brick", "stone", "toy", "metal"})  # nouns as well
_RECIPROCAL = {("each", "other"), ("one", "another")}


def verb_at(tokens: Sequence[str], place: int) -> Verb | None:
    """The verb whose form stands at a place."""
    if place >= len(tokens) or tokens[place] in words.NEVER_VERBS:
        return None
    return words.verbs().get(tokens[place])


def is_gerund(tokens: Sequence[str], place: int) -> bool:
    """Whether a form in -ing stands at a place."""
    verb = verb_at(tokens, place)
    return verb is not None and verb.form == "gerund"


def is_noun(token: str) -> bool:
    """Whether a token may be a noun or describe one: it is no function word."""
    function_words = (
        PREPOSITIONS,
        ENDS,
        DETERMINERS,
        PARTICLES,
        PRONOUNS,
        ADVERBS,
        NUMBERS,
    )
    return not any(token in table for table in function_words)


def has_agent(tokens: Sequence[str]) -> bool:
    """Whether somebody who acts is among the tokens."""
    return any(token in words.agents() for token in tokens)


def noun_phrase(tokens: Sequence[str], start: int, may_be_colour: bool = False) -> int:
    """Where the noun phrase that begins at `start` ends; `start` itself where there is none.

    A phrase that would end in an adjective or a colour is none: its noun is not understood. "In
    red" is one where `may_be_colour`.
    """
    if tuple(tokens[start : start + 2]) in _RECIPROCAL:
        return start + 2
    place = start
    while place < len(tokens) and _continues(tokens, start, place):
        place += 1
    if place == start:
        return start
    # "an adults hand" lacks its apostrophe.
    plurals = [
        token
        for token in tokens[start : place - 1]
        if token in words.agents() and words.agents()[token].is_plural
    ]
    return start if plurals or _is_open(tokens[place - 1], may_be_colour) else place


def _is_open(last: str, may_be_colour: bool) -> bool:
    """Whether a phrase with this last word lacks its noun."""
    if last in DETERMINERS or last in NUMBERS or last in PRONOUNS:
        return True
    if last == "and" or last.endswith("'s"):
        return True
    if last in COLOURS:
        return not may_be_colour
    return last in ADJECTIVES and last not in _MATERIALS


def _continues(tokens: Sequence[str], start: int, place: int) -> bool:
    """Whether the token belongs to the noun phrase from `start`."""
    token = tokens[place]
    before = tokens[place - 1] if place > start else ""
    behind = tokens[place + 1] if place + 1 < len(tokens) else "."
    if token in {"and", ","}:
        # "a black and white dog", "a red, white and blue ball"
        is_last_comma = token == "," and behind == "and"
        return before in COLOURS and (behind in COLOURS or is_last_comma)
    if token in PREPOSITIONS or token in ENDS or token in PRONOUNS - DETERMINERS:
        return False
    if token in DETERMINERS or token in NUMBERS:
        return not before or before in DETERMINERS
    if before and (token in PARTICLES or token in ADVERBS):
        return False
    before_a_noun = (DETERMINERS, ADJECTIVES, COLOURS, NUMBERS)
    is_qualified = not before or any(before in table for table in before_a_noun)
    if token in PARTICIPLES:
        return is_qualified and bool(before) and is_noun(behind)
    verb = verb_at(tokens, place)
    if verb is None:
        return token not in {"not", "no"}
    # "a swimming pool", "some jumps", "a surf board": nouns behind a determiner, else verbs.
    if verb.form == "gerund":
        return is_qualified and is_noun(behind)
    if verb.form == "third":
        return is_qualified and bool(before)
    return bool(before) or is_noun(behind)


def with_of(tokens: Sequence[str], end: int) -> int:
    """The end of a noun phrase with what it is of: "front" → "front of a house"."""
    while tokens[end : end + 1] == ["of"]:
        stop = noun_phrase(tokens, end + 1)
        if stop == end + 1:
            return end
        end = stop
    return end


def with_second(tokens: Sequence[str], end: int) -> int:
    """The end of "a bat and a ball"; `end` where what follows "and" begins a clause."""
    if tokens[end : end + 1] != ["and"] or verb_at(tokens, end + 1):
        return end
    stop = noun_phrase(tokens, end + 1)
    behind = tokens[stop] if stop < len(tokens) else "."
    begins_clause = behind in {"is", "are"} or verb_at(tokens, stop) is not None
    if stop == end + 1 or begins_clause or has_agent(tokens[end + 1 : stop]):
        return end
    return stop
