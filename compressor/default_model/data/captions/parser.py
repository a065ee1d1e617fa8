"""Reads one caption: who is in it, what they do, wear and hold, and the colours of things.

A shallow parse: it finds the agents, and reads verb, object and places behind each as far as the
lexicon carries. It prefers precision to recall: a clause that does not parse clean is dropped.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from compressor.default_model.data.captions import words
from compressor.default_model.data.captions.actions import Action, action_at
from compressor.default_model.data.captions.phrases import (
    has_agent,
    is_gerund,
    is_noun,
    noun_phrase,
    verb_at,
)
from compressor.default_model.data.captions.words import (
    ADJECTIVES,
    ADVERBS,
    CLOTHING,
    COLLECTIVES,
    COLOURS,
    DETERMINERS,
    MANY_WORDS,
    NUMBERS,
    PARTICIPLES,
    POSSESSIVES,
    PREPOSITIONS,
    Agent,
)

_TOKEN = re.compile(r"[a-z0-9]+(?:[-'][a-z0-9]+)*|[.,;:!?]")
_SLIPS = {"though": "through", "threw": "through", "thru": "through"}
_IN_HAND = re.compile(r"in (?:its|his|her|their|the) (\w+)")
_OF_A_PART = ("haired", "skinned", "'s", "colored", "faced", "striped")
_HANDS = words.words("hands")


@dataclass
class Mention:
    """An agent in a caption."""

    noun: str  # singular
    category: str
    is_plural: bool
    count: int | None  # None: a plural that nobody counted
    is_definite: bool  # "the dog" may be one that the caption already spoke of
    description: str  # "little girl", "brown and white dog"
    actions: list[Action] = field(default_factory=list)
    worn: list[str] = field(default_factory=list)  # "a red shirt"
    held: list[tuple[str, str]] = field(default_factory=list)  # ("a stick", "mouth")
    places: list[tuple[str, str]] = field(default_factory=list)  # ("on", "a bench")


@dataclass(frozen=True)
class Parse:
    """What one caption says."""

    caption: str  # tidied: a capital first, a full stop behind
    tokens: tuple[str, ...]
    mentions: tuple[Mention, ...]
    coloured: tuple[tuple[str, tuple[str, ...]], ...]  # ("shirt", ("red", "white"))
    places: tuple[tuple[str, str], ...]  # every preposition and its noun phrase


def parse(caption: str) -> Parse:
    """Reads a caption."""
    text = tidied(caption)
    tokens = [_SLIPS.get(token, token) for token in _TOKEN.findall(text.lower())]
    return Parse(
        text,
        tuple(tokens),
        tuple(_mentions(tokens)),
        tuple(_coloured(tokens)),
        tuple(_places(tokens)),
    )


def tidied(caption: str) -> str:
    """A caption as a sentence: a capital first, no space before punctuation, a full stop behind."""
    text = " ".join(caption.split())
    text = re.sub(r"\s+([.,;:!?])", r"\1", text)
    text = re.sub(r"\s+('s|n't|')(?=\s|$)", r"\1", text).strip(" .,;:")
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _mentions(tokens: Sequence[str]) -> list[Mention]:
    found: list[Mention] = []
    read_to = -1
    for place in range(len(tokens)):
        agent = _agent_at(tokens, place)
        mention = _described(tokens, place, agent) if agent else None
        if mention is None:
            continue
        found.append(mention)
        # In "a man with a dog runs" the verb is the man's: the dog stands in a phrase of his.
        is_embedded = place < read_to
        reader = _Reader(tokens, place + 1, mention, is_embedded)
        read_to = max(read_to, reader.read())
    return found


def _agent_at(tokens: Sequence[str], place: int) -> Agent | None:
    agent = words.agents().get(tokens[place])
    behind = tokens[place + 1] if place + 1 < len(tokens) else "."
    if agent is None or behind in words.agents() or behind.endswith("'s"):
        return None
    verb = verb_at(tokens, place + 1)
    if verb is None:
        # "a dog park", "a baby carriage"
        is_compound = is_noun(behind) and behind not in PARTICIPLES
        return None if is_compound else agent
    # "A man and a woman sit" agrees with both.
    is_joined = "and" in tokens[max(0, place - 4) : place]
    if verb.form == "base" and not agent.is_plural and not is_joined:
        return None
    # "A group of girls stands" agrees with the group.
    of_group = "of" in tokens[max(0, place - 4) : place]
    if verb.form == "third" and agent.is_plural and not of_group:
        return None
    return agent


def _described(tokens: Sequence[str], place: int, agent: Agent) -> Mention | None:
    """The mention whose noun is at `place`, with what stands before it."""
    start = place
    while start > 0 and _is_modifier(tokens, start - 1):
        start -= 1
    modifiers = list(tokens[start:place])
    of_what = tokens[start - 2] if start > 1 and tokens[start - 1] == "of" else ""
    is_of_somebody = any(word.endswith("'s") for word in modifiers)
    is_alive = not words.words("not_alive") & set(modifiers)
    if is_of_somebody or not is_alive or of_what in words.words("likenesses"):
        return None
    count: int | None = 1
    if agent.is_plural:
        numbers = [NUMBERS[word] for word in modifiers if word in NUMBERS]
        count = numbers[-1] if numbers else COLLECTIVES.get(of_what)
    return Mention(
        agent.noun,
        agent.category,
        agent.is_plural,
        count,
        "the" in modifiers or bool(POSSESSIVES & set(modifiers)),
        _description(modifiers, tokens[place]),
    )


def _description(modifiers: Sequence[str], noun: str) -> str:
    """The noun with the qualities before it, if all are understood."""
    qualities = [
        word
        for word in modifiers
        if word not in DETERMINERS and word not in NUMBERS and word not in MANY_WORDS
    ]
    known = (ADJECTIVES, COLOURS, words.words("sports"), {"and"})
    for word in qualities:
        if not any(word in table for table in known):
            return noun
    return " ".join([*qualities, noun])


def _is_modifier(tokens: Sequence[str], place: int) -> bool:
    token, behind = tokens[place], tokens[place + 1]
    before = tokens[place - 1] if place else ""
    if token in {"and", ","}:
        return behind in COLOURS and before in COLOURS
    if behind in DETERMINERS and token not in DETERMINERS:
        return False
    if any(token in table for table in (DETERMINERS, NUMBERS, ADJECTIVES, COLOURS)):
        return True
    verb = verb_at(tokens, place)
    if verb is not None:
        # "a smiling girl", but not "holding children"
        is_qualified = before in DETERMINERS or before in ADJECTIVES
        return verb.form != "third" and is_qualified
    if token in words.agents():
        return False
    return is_noun(token) and token not in PARTICIPLES


class _Reader:
    """Reads what stands behind an agent into its mention."""

    def __init__(
        self, tokens: Sequence[str], place: int, mention: Mention, is_embedded: bool
    ) -> None:
        self._tokens, self._place = tokens, place
        self._mention, self._is_embedded = mention, is_embedded
        self._saw_agent = False
        # Behind another agent a participle may speak of that one.
        self._may_be_participle = True

    def read(self) -> int:
        """Reads as far as it understands; returns where it stopped."""
        while self._place < len(self._tokens) and self._step():
            pass
        return self._place

    def _behind(self, distance: int = 1) -> str:
        place = self._place + distance
        return self._tokens[place] if place < len(self._tokens) else "."

    def _step(self) -> bool:
        token = self._tokens[self._place]
        if token in {"who", "that", "which"} or token in ADVERBS:
            self._place += 1
            return True
        if token == ",":
            return self._comma()
        if token in {"is", "are"}:
            return self._auxiliary(token)
        if token in {"while", "whilst", "and", "as"}:
            return self._conjunction()
        if token == "dressed":
            return self._dressed()
        if verb_at(self._tokens, self._place):
            return self._verb()
        return token in PREPOSITIONS and self._phrase(token)

    def _comma(self) -> bool:
        goes_on = self._behind() in {"who", "wearing", "in"}
        if not goes_on and not is_gerund(self._tokens, self._place + 1):
            return False
        self._may_be_participle = not self._saw_agent
        self._place += 1
        return True

    def _auxiliary(self, token: str) -> bool:
        if self._is_embedded or (token == "are") != self._mention.is_plural:
            return False
        self._place += 1
        while self._behind(0) in ADVERBS:
            self._place += 1
        if is_gerund(self._tokens, self._place):
            self._may_be_participle = True
            return True
        if self._behind(0) in PREPOSITIONS:
            end = noun_phrase(self._tokens, self._place + 1)
            phrase = " ".join(self._tokens[self._place + 1 : end])
            if phrase:
                self._mention.places.append((self._behind(0), phrase))
            return False
        return self._behind(0) == "dressed"

    def _conjunction(self) -> bool:
        verb = verb_at(self._tokens, self._place + 1)
        if verb is None or self._is_embedded:
            return False
        if verb.form != "gerund" and verb.form not in _finite_forms(self._mention):
            return False
        self._may_be_participle = True
        self._place += 1
        return True

    def _dressed(self) -> bool:
        if self._behind() != "in":
            return False
        self._worn(self._place + 2)
        return True

    def _verb(self) -> bool:
        verb = verb_at(self._tokens, self._place)
        assert verb is not None
        if verb.form == "gerund":
            is_own = self._may_be_participle
        else:
            forms = _finite_forms(self._mention)
            is_own = not self._is_embedded and verb.form in forms
        if not is_own:
            return False
        if verb.base == "wear":
            self._worn(self._place + 1)
            return True
        action, end = action_at(self._tokens, self._place)
        if action is None:
            return False
        self._mention.actions.append(action)
        if action.verb in {"hold", "carry"} and action.object:
            self._mention.held.append((action.object, _hand(action)))
        self._note_agent(end)
        self._may_be_participle = not self._saw_agent
        self._place = end
        return True

    def _phrase(self, preposition: str) -> bool:
        start = self._place + 1
        end = noun_phrase(self._tokens, start, may_be_colour=preposition == "in")
        if end == start:
            return False
        phrase, head = " ".join(self._tokens[start:end]), self._tokens[end - 1]
        if preposition == "in" and head in CLOTHING:
            self._worn(start)
            return True
        in_hand = _IN_HAND.match(" ".join(self._tokens[end : end + 3]))
        if preposition == "with" and in_hand and in_hand[1] in _HANDS:
            self._mention.held.append((phrase, in_hand[1]))
            end += 3
        elif preposition == "with" and head in CLOTHING:
            # "with a hat on"
            if self._tokens[end : end + 1] == ["on"]:
                self._mention.worn.append(phrase)
                end += 1
        elif preposition != "of" and head not in COLOURS:
            self._mention.places.append((preposition, phrase))
        self._note_agent(end)
        self._may_be_participle = self._may_be_participle and not self._saw_agent
        self._place = end
        return True

    def _note_agent(self, end: int) -> None:
        self._saw_agent |= has_agent(self._tokens[self._place + 1 : end])

    def _worn(self, place: int) -> None:
        """Reads "a red shirt and blue jeans"."""
        while True:
            end = noun_phrase(self._tokens, place)
            self._place = max(end, place)
            is_worn = end > place and self._tokens[end - 1] in CLOTHING
            if not is_worn or has_agent(self._tokens[place:end]):
                return
            self._mention.worn.append(" ".join(self._tokens[place:end]))
            following = noun_phrase(self._tokens, end + 1)
            goes_on = self._behind(0) == "and" and following > end + 1
            if not goes_on or self._tokens[following - 1] not in CLOTHING:
                return
            place = end + 1


def _finite_forms(mention: Mention) -> tuple[str, ...]:
    """Of verbs that agree: a group of girls stands, or stand."""
    return ("base", "third") if mention.is_plural else ("third",)


def _hand(action: Action) -> str:
    for preposition, phrase in action.places:
        last = phrase.split()[-1]
        if preposition == "in" and last in _HANDS:
            return last
    return ""


def _coloured(tokens: Sequence[str]) -> list[tuple[str, tuple[str, ...]]]:
    found: list[tuple[str, tuple[str, ...]]] = []
    place = 0
    while place < len(tokens):
        end = noun_phrase(tokens, place) if tokens[place] in COLOURS else place
        if end == place:
            place += 1
            continue
        phrase, head = tokens[place:end], tokens[end - 1]
        colours = [COLOURS[word] for word in phrase if word in COLOURS]
        # "black haired" is said of the hair.
        is_whole = not any(word.endswith(_OF_A_PART) for word in phrase)
        if is_whole and head not in words.verbs():
            found.append((head, tuple(dict.fromkeys(colours))))
        place = end
    return found


def _places(tokens: Sequence[str]) -> list[tuple[str, str]]:
    found = []
    for place, token in enumerate(tokens):
        end = noun_phrase(tokens, place + 1) if token in PREPOSITIONS else 0
        if end > place + 1:
            found.append((token, " ".join(tokens[place + 1 : end])))
    return found
