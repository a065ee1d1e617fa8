"""How many people, animals and things captions agree on."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence

from compressor.default_model.data.captions import words
from compressor.default_model.data.captions.parser import Mention, Parse
from compressor.default_model.data.captions.words import (
    ANIMALS,
    NUMBERS,
    PEOPLE,
    PREPOSITIONS,
)

# The number of a plural that nobody counted, and of a crowd.
SEVERAL, MANY = -1, -2
CHILDREN = frozenset({"boy", "girl", "child", "baby"})
_MIN_VOTES = 2
_MOST = 9
_OTHERS = re.compile(r"\b(?:another|others?|ones)\b")
_RECIPROCAL = re.compile(r"\beach other\b|\bone another\b")
_LISTING = frozenset({",", ":", "one"})


def counts_of(parses: Sequence[Parse]) -> dict[str, int]:
    """The number of each category; "child" counts boys and girls, "person" everybody."""
    groups = {name: frozenset({name}) for name in sorted(ANIMALS | PEOPLE)}
    groups["child"] = CHILDREN
    groups["person"] = PEOPLE
    people = [_number_in(each, PEOPLE) for each in parses]
    most = max((_size(number) for number in people if number), default=0)
    counts: dict[str, int] = {}
    for name, categories in groups.items():
        number = _agreed([_number_in(each, categories) for each in parses])
        if number is None:
            continue
        if name in PEOPLE and number == 1 and _is_low(parses, categories, most):
            continue
        counts[name] = number
    return counts


def _is_low(parses: Sequence[Parse], categories: frozenset[str], most: int) -> bool:
    """Whether some caption speaks of more people than those do that name the category."""
    sizes = []
    for each in parses:
        number = _number_in(each, PEOPLE)
        if number and any(mention.category in categories for mention in each.mentions):
            sizes.append(_size(number))
    return most > min(sizes, default=0)


def _size(number: int) -> int:
    return {SEVERAL: 3, MANY: 10}.get(number, number)


def _number_in(each: Parse, categories: frozenset[str]) -> int | None:
    """How many a caption has; 0 where it names none, None where it cannot be told."""
    mentions = [mention for mention in each.mentions if mention.category in categories]
    tokens = set(each.tokens)
    if categories == PEOPLE and tokens & words.words("crowds"):
        return MANY
    if _is_incomplete(each, categories, mentions):
        return None
    if not mentions:
        return 0
    plurals = sum(mention.is_plural for mention in mentions)
    if plurals and len(mentions) > 1:
        # "Two children , a boy and a girl": a sum would count them twice.
        is_again = any(mention.is_definite for mention in mentions)
        if tokens & _LISTING or is_again:
            return None
    return _sum(mentions)


def _is_incomplete(
    each: Parse, categories: frozenset[str], mentions: Sequence[Mention]
) -> bool:
    """Whether a caption speaks of more than the mentions that were understood."""
    agents = [words.agents().get(token) for token in each.tokens]
    named = [agent for agent in agents if agent and agent.category in categories]
    if len(named) > len(mentions):
        return True
    if _OTHERS.search(_RECIPROCAL.sub("", " ".join(each.tokens))):
        return True
    has_others = bool(words.words("other_people") & set(each.tokens))
    is_plural = any(mention.is_plural for mention in mentions)
    return categories == PEOPLE and has_others and not is_plural


def _sum(mentions: Sequence[Mention]) -> int:
    total = 0
    seen: set[str] = set()
    for mention in mentions:
        # "A dog runs as the dog …" speaks of one.
        is_again = mention.is_definite and mention.category in seen
        seen.add(mention.category)
        if is_again:
            continue
        if mention.count is None:
            return SEVERAL
        total += mention.count
    return total


def _agreed(numbers: Sequence[int | None]) -> int | None:
    said = [number for number in numbers if number]
    exact = Counter(number for number in said if number > 0)
    vague = [number for number in said if number < 0]
    if len(exact) == 1:
        number, votes = exact.most_common(1)[0]
        is_contradicted = (number == 1 and vague) or MANY in vague
        is_sure = votes >= _MIN_VOTES and not is_contradicted
        return number if is_sure and number <= _MOST else None
    if exact or len(vague) < _MIN_VOTES:
        return None
    return MANY if vague.count(MANY) >= _MIN_VOTES else SEVERAL


def thing_counts(parses: Sequence[Parse]) -> dict[str, int]:
    """Things that two captions count alike: "bikes": 2."""
    votes: dict[str, Counter[int]] = defaultdict(Counter)
    for each in parses:
        for name, number in _counted_things(each.tokens).items():
            votes[name][number] += 1
    agreed = {}
    for name, numbers in votes.items():
        if len(numbers) == 1 and numbers.total() >= _MIN_VOTES:
            agreed[name] = next(iter(numbers))
    return agreed


def _counted_things(tokens: Sequence[str]) -> dict[str, int]:
    found = {}
    for place, token in enumerate(tokens):
        number = NUMBERS.get(token, 0)
        behind = tokens[place + 1 : place + 4] if number > 1 else ()
        for word in behind:
            if word in words.agents() or word in PREPOSITIONS:
                break
            if word.endswith("s") and word[:-1] in words.words("things"):
                found[word] = number
                break
    return found
