"""Reads one caption: who is in it, what they do, wear and hold, and the colours of things.

A shallow parse: it finds the agents, and reads verb, object and places behind each as far as the
lexicon carries. It prefers precision: a clause that does not parse clean is dropped.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from compressor.default_model.data import caption_words as lexicon
from compressor.default_model.data.caption_words import (
    ADJECTIVES,
    ADVERBS,
    CLOTHING,
    COLLECTIVES,
    COLOURS,
    DETERMINERS,
    ENDS,
    MANY_WORDS,
    NUMBERS,
    PARTICIPLES,
    PARTICLES,
    POSSESSIVES,
    PREPOSITIONS,
    PRONOUNS,
    Agent,
)

_TOKEN = re.compile(r"[a-z0-9]+(?:[-'][a-z0-9]+)*|[.,;:!?]")
_SLIPS = {"though": "through", "threw": "through", "thru": "through", "infront": "near"}
_MAX_PLACES = 2  # behind a verb: "in the snow", "on a beach"
_MAX_WORDS = 10  # of an action
# "A statue of a man", "a picture of a dog": there is no man, no dog.
_LIKENESSES = frozenset(
    ["statue", "picture", "photo", "photograph", "painting", "mural", "drawing", "image", "poster", "sculpture", "type", "kind", "portrait", "silhouette", "shadow", "reflection", "shape"]
)
_NOT_ALIVE = frozenset(
    {"toy", "stuffed", "plastic", "stone", "fake", "hot", "inflatable"}
)
_SPORTS = frozenset(
    ["football", "soccer", "basketball", "baseball", "tennis", "hockey", "rugby", "volleyball", "bike", "motorcycle", "dirt", "bmx", "mountain", "rock", "ice", "cricket", "softball", "golf", "german", "golden"]
)
_HANDS = frozenset({"mouth", "hand", "hands", "mouths", "arms", "arm", "lap", "teeth"})
# A place behind these verbs with this preposition is part of what they mean.
_WITH_VERBS = frozenset(
    {"play", "wrestle", "fight", "interact", "dance", "tug", "race"}
)
_OF_A_PART = ("haired", "skinned", "'s", "colored", "faced", "striped")
_SKIPPED_PREPOSITIONS = frozenset(
    {"without", "during", "like", "amid", "amidst", "about"}
)


@dataclass(frozen=True)
class Action:
    """What an agent does: "running through the snow"."""

    verb: str  # its base
    gerund: str
    text: str  # with object and places
    object: str = ""  # "a red ball"
    places: tuple[tuple[str, str], ...] = ()  # ("through", "the snow")


@dataclass
class Mention:
    """An agent in a caption."""

    noun: str  # singular
    category: str
    is_plural: bool
    count: int | None  # None: a plural that nobody counted
    is_definite: bool  # "the dog" may be one that the caption already spoke of
    description: str  # "little girl", "brown and white dog"
    colours: tuple[str, ...] = ()
    actions: list[Action] = field(default_factory=list)
    worn: list[str] = field(default_factory=list)  # "a red shirt"
    held: list[tuple[str, str]] = field(default_factory=list)  # ("a stick", "mouth")
    places: list[tuple[str, str]] = field(default_factory=list)
    with_others: bool = False  # "and a woman": the verb speaks of both


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
    tokens = _tokens(text)
    return Parse(
        text,
        tuple(tokens),
        tuple(_mentions(tokens)),
        tuple(_coloured(tokens)),
        tuple(_all_places(tokens)),
    )


def tidied(caption: str) -> str:
    """A caption as a sentence: a capital first, no space before punctuation, a full stop behind."""
    text = " ".join(caption.split())
    text = re.sub(r"\s+([.,;:!?])", r"\1", text)
    text = re.sub(r"\s+('s|n't|')(?=\s|$)", r"\1", text).strip(" .,;:")
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _tokens(text: str) -> list[str]:
    return [_SLIPS.get(token, token) for token in _TOKEN.findall(text.lower())]


def noun_phrase(tokens: Sequence[str], start: int, may_be_colour: bool = False) -> int:
    """Where the noun phrase that begins at `start` ends; `start` itself where there is none."""
    if tuple(tokens[start : start + 2]) in {("each", "other"), ("one", "another")}:
        return start + 2
    place = start
    while place < len(tokens):
        if not _continues(tokens, start, place):
            break
        place += 1
    last = tokens[place - 1] if place > start else ""
    # "an adults hand" lacks its apostrophe.
    if any(
        lexicon.agents()[token].is_plural
        for token in tokens[start : place - 1]
        if token in lexicon.agents()
    ):
        return start
    is_open = (
        last in DETERMINERS
        or last in NUMBERS
        or last.endswith("'s")
        or last == "and"
        or last in PRONOUNS
    )
    if not last or is_open:
        return start
    is_quality = last in ADJECTIVES and last not in {"brick", "stone", "toy", "metal"}
    if (last in COLOURS and not may_be_colour) or is_quality:
        return start
    return place


def _continues(tokens: Sequence[str], start: int, place: int) -> bool:
    """Whether the token belongs to the noun phrase from `start`."""
    token = tokens[place]
    before = tokens[place - 1] if place > start else ""
    behind = tokens[place + 1] if place + 1 < len(tokens) else "."
    if token in {"and", ","}:
        # "a black and white dog", "a red , white and blue ball"
        return (
            (before in COLOURS
            and behind in COLOURS)
            or (token == "," and before in COLOURS and behind == "and")
        )
    if token in PREPOSITIONS or token in ENDS:
        return False
    if token in DETERMINERS or token in NUMBERS:
        return not before or before in DETERMINERS
    if token in PRONOUNS:
        return False
    if before and (token in PARTICLES or token in ADVERBS):
        return False
    is_qualified = not before or before in DETERMINERS or before in ADJECTIVES
    is_qualified = is_qualified or before in COLOURS or before in NUMBERS
    if token in PARTICIPLES:
        return is_qualified and bool(before) and _is_noun(behind)
    verb = lexicon.verbs().get(token)
    if verb is None or token in lexicon.NEVER_VERBS:
        return token not in {"not", "no", "others", "other's"}
    if verb.form == "gerund":
        return is_qualified and _is_noun(behind)
    if verb.form == "third":
        return is_qualified and bool(before)
    return bool(before) or _is_noun(behind)


def _is_noun(token: str) -> bool:
    return not (
        token in PREPOSITIONS
        or token in ENDS
        or token in DETERMINERS
        or token in PARTICLES
        or token in PRONOUNS
        or token in ADVERBS
        or token in NUMBERS
    )


def _mentions(tokens: Sequence[str]) -> list[Mention]:
    found: list[Mention] = []
    read_to = -1  # agents before this token belong to a phrase that is read already
    place = 0
    while place < len(tokens):
        agent = _agent_at(tokens, place)
        if agent is None:
            place += 1
            continue
        mention = _described(tokens, place, agent)
        if mention is None:
            place += 1
            continue
        found.append(mention)
        is_embedded = place < read_to
        end = _read_behind(tokens, place + 1, [mention], is_embedded)
        read_to = max(read_to, end)
        place += 1
    _join(tokens, found)
    return found


def _agent_at(tokens: Sequence[str], place: int) -> Agent | None:
    agent = lexicon.agents().get(tokens[place])
    if agent is None:
        return None
    behind = tokens[place + 1] if place + 1 < len(tokens) else "."
    if behind in lexicon.agents() or behind.endswith("'s"):
        return None
    verb = lexicon.verbs().get(behind)
    if verb is None or behind in lexicon.NEVER_VERBS:
        # "a dog park", "a baby carriage"
        ends = not _is_noun(behind) or behind in PARTICIPLES or behind in {"."}
        return agent if ends else None
    if verb.form == "base" and not agent.is_plural:
        return None
    # "A group of girls stands" agrees with the group.
    of_group = place > 1 and "of" in tokens[max(0, place - 4) : place]
    if verb.form == "third" and agent.is_plural and not of_group:
        return None
    return agent


def _described(tokens: Sequence[str], place: int, agent: Agent) -> Mention | None:
    """The mention whose noun is at `place`, with what stands before it."""
    start = place
    while start > 0 and _is_modifier(tokens, start - 1):
        start -= 1
    modifiers = list(tokens[start:place])
    before = tokens[start - 1] if start else ""
    two_before = tokens[start - 2] if start > 1 else ""
    if _NOT_ALIVE & set(modifiers) or any(word.endswith("'s") for word in modifiers):
        return None
    if before == "of" and two_before in _LIKENESSES:
        return None
    count = None if agent.is_plural else 1
    for word in modifiers:
        if word in NUMBERS:
            count = NUMBERS[word] if agent.is_plural else count
    if count is None and before == "of" and two_before in COLLECTIVES:
        count = COLLECTIVES[two_before]
    colours = tuple(
        dict.fromkeys(COLOURS[word] for word in modifiers if word in COLOURS)
    )
    kept = [
        word
        for word in modifiers
        if word not in DETERMINERS and word not in NUMBERS and word not in MANY_WORDS
    ]
    known = all(
        word in ADJECTIVES or word in COLOURS or word == "and" or word in _SPORTS
        for word in kept
    )
    noun = tokens[place]
    description = " ".join([*kept, noun]) if known else noun
    definite = "the" in modifiers or bool(POSSESSIVES & set(modifiers))
    return Mention(
        agent.noun,
        agent.category,
        agent.is_plural,
        count,
        definite,
        description,
        colours if agent.category in lexicon.ANIMALS else (),
    )


def _is_modifier(tokens: Sequence[str], place: int) -> bool:
    token = tokens[place]
    behind = tokens[place + 1]
    if token in {"and", ","}:
        return behind in COLOURS and place > 0 and tokens[place - 1] in COLOURS
    if behind in DETERMINERS and token not in DETERMINERS:
        return False
    if token in DETERMINERS or token in NUMBERS:
        return True
    if token in ADJECTIVES or token in COLOURS:
        return True
    verb = lexicon.verbs().get(token)
    if verb is not None and token not in lexicon.NEVER_VERBS:
        # "a smiling girl", but not "holding children"
        before = tokens[place - 1] if place else ""
        return verb.form != "third" and (before in DETERMINERS or before in ADJECTIVES)
    if token in lexicon.agents():
        return False
    return _is_noun(token) and token not in PARTICIPLES


def _read_behind(
    tokens: Sequence[str], place: int, mentions: list[Mention], is_embedded: bool
) -> int:
    """Reads what stands behind an agent into its mention; returns where it stops."""
    mention = mentions[0]
    saw_agent = False  # in a phrase read here: a participle may speak of that one
    may_be_participle = True
    while place < len(tokens):
        token = tokens[place]
        behind = tokens[place + 1] if place + 1 < len(tokens) else "."
        verb = lexicon.verbs().get(token)
        if token in {"who", "that", "which"} or token in ADVERBS:
            place += 1
        elif token == "," and (
            behind in {"who", "wearing", "in"} or _is_gerund(behind)
        ):
            may_be_participle = not saw_agent
            place += 1
        elif token in {"is", "are"}:
            is_wrong = token == "are" and not mention.is_plural
            if is_embedded or is_wrong or (token == "is" and mention.is_plural):
                break
            place += 1
            while place < len(tokens) and tokens[place] in ADVERBS:
                place += 1
            if place < len(tokens) and not _is_gerund(tokens[place]):
                if tokens[place] in PREPOSITIONS:
                    end = noun_phrase(tokens, place + 1)
                    if end > place + 1:
                        mention.places.append(
                            (tokens[place], " ".join(tokens[place + 1 : end]))
                        )
                elif tokens[place] == "dressed" and tokens[place + 1 : place + 2] == [
                    "in"
                ]:
                    continue
                break
            may_be_participle = True
        elif token in {"while", "whilst", "and", "as"} and verb_at(tokens, place + 1):
            following = verb_at(tokens, place + 1)
            assert following is not None
            agrees = following.form == "gerund" or following.form in _forms(mention)
            if not agrees or is_embedded:
                break
            may_be_participle = True
            place += 1
        elif token == "dressed" and behind == "in":
            place = _read_worn(tokens, place + 2, mention)
        elif verb is not None and token not in lexicon.NEVER_VERBS:
            if verb.form == "gerund":
                if not may_be_participle:
                    break
            elif is_embedded or verb.form not in _forms(mention):
                break
            if verb.base == "wear":
                place = _read_worn(tokens, place + 1, mention)
                continue
            action, end = verb_phrase(tokens, place)
            if action is None:
                break
            mention.actions.append(action)
            if action.verb in {"hold", "carry"} and action.object:
                mention.held.append((action.object, _hand(action.places)))
            saw_agent = saw_agent or _has_agent(tokens[place + 1 : end])
            may_be_participle = not saw_agent
            place = end
        elif token in PREPOSITIONS:
            end = noun_phrase(tokens, place + 1, may_be_colour=token == "in")
            if end == place + 1:
                break
            phrase = " ".join(tokens[place + 1 : end])
            head = tokens[end - 1]
            if token == "in" and head in CLOTHING and head not in {"gear", "leash"}:
                place = _read_worn(tokens, place + 1, mention)
                continue
            hand = " ".join(tokens[end : end + 3])
            in_hand = re.match(r"in (?:its|his|her|their|the) (\w+)", hand)
            if token == "with" and in_hand and in_hand[1] in _HANDS:
                mention.held.append((phrase, in_hand[1]))
                end += 3
            elif (
                token == "with" and head in CLOTHING and tokens[end : end + 1] == ["on"]
            ):
                mention.worn.append(phrase)
                end += 1
            elif token != "of" and head not in COLOURS:
                mention.places.append((token, phrase))
            saw_agent = saw_agent or _has_agent(tokens[place + 1 : end])
            may_be_participle = may_be_participle and not saw_agent
            place = end
        else:
            break
    return place


def _forms(mention: Mention) -> tuple[str, ...]:
    """Of verbs that agree: a group of girls stands, or stand."""
    return ("base", "third") if mention.is_plural else ("third",)


def _is_gerund(token: str) -> bool:
    verb = lexicon.verbs().get(token)
    return (
        verb is not None and verb.form == "gerund" and token not in lexicon.NEVER_VERBS
    )


def verb_at(tokens: Sequence[str], place: int) -> lexicon.Verb | None:
    """The verb at a place, if a verb form stands there."""
    if place >= len(tokens) or tokens[place] in lexicon.NEVER_VERBS:
        return None
    return lexicon.verbs().get(tokens[place])


def _has_agent(tokens: Sequence[str]) -> bool:
    return any(token in lexicon.agents() for token in tokens)


def _hand(places: tuple[tuple[str, str], ...]) -> str:
    for preposition, phrase in places:
        if preposition == "in" and phrase.split()[-1] in _HANDS:
            return phrase.split()[-1]
    return ""


def _read_worn(tokens: Sequence[str], place: int, mention: Mention) -> int:
    """Reads "a red shirt and blue jeans" as worn; returns where it ends."""
    while True:
        end = noun_phrase(tokens, place)
        if end == place:
            return place
        if tokens[end - 1] not in CLOTHING or _has_agent(tokens[place:end]):
            return end
        mention.worn.append(" ".join(tokens[place:end]))
        if tokens[end : end + 1] != ["and"] or verb_at(tokens, end + 1):
            return end
        following = noun_phrase(tokens, end + 1)
        if following == end + 1 or tokens[following - 1] not in CLOTHING:
            return end
        place = end + 1


def verb_phrase(tokens: Sequence[str], place: int) -> tuple[Action | None, int]:
    """The action whose verb is at `place` and where it ends; None where it does not parse."""
    verb = lexicon.verbs()[tokens[place]]
    words = [verb.gerund]
    end = place + 1
    if verb.needs_infinitive:
        following = verb_at(tokens, end + 1)
        if tokens[end : end + 1] != ["to"] or following is None:
            return None, end
        inner, end = verb_phrase(tokens, end + 1)
        if inner is None or following.form != "base":
            return None, end
        rest = inner.text.removeprefix(inner.gerund)
        text = f"{verb.gerund} to {following.base}{rest}"
        return Action(verb.base, verb.gerund, text, inner.object, inner.places), end
    while (
        end < len(tokens)
        and tokens[end] in PARTICLES
        and not _begins_place(tokens, end)
    ):
        words.append(tokens[end])
        end += 1
    while end < len(tokens) and tokens[end] in ADVERBS:
        end += 1
    thing = ""
    stop = noun_phrase(tokens, end)
    if stop > end and verb.base in lexicon.INTRANSITIVE:
        return None, end
    if stop > end:
        stop = _with_second(tokens, stop)
        stop = _with_of(tokens, stop)
        thing = " ".join(tokens[end:stop])
        words += tokens[end:stop]
        end = stop
        if (
            end < len(tokens)
            and tokens[end] in PARTICLES
            and not _begins_place(tokens, end)
        ):
            words.append(tokens[end])
            end += 1
    elif end < len(tokens) and _is_noun(tokens[end]) and tokens[end] not in PARTICIPLES:
        # Something that is no noun phrase follows: a verb, an adjective that would dangle.
        following = verb_at(tokens, end)
        if following is None:
            return None, end
    elif end < len(tokens) and (tokens[end] in PRONOUNS or tokens[end] in DETERMINERS):
        return None, end
    places: list[tuple[str, str]] = []
    while (
        end < len(tokens) and tokens[end] in PREPOSITIONS and len(places) < _MAX_PLACES
    ):
        preposition = tokens[end]
        begin = end + 1
        if preposition in {"out", "off", "up", "down", "in"} and tokens[begin : begin + 1] in (
            ["of"], ["from"], ["to"], ["into"], ["towards"], ["on"]
        ):  # fmt: skip
            preposition = f"{preposition} {tokens[begin]}"
            begin += 1
        if not _is_place(verb.base, preposition, tokens, begin, bool(thing)):
            break
        stop = noun_phrase(tokens, begin)
        if stop == begin:
            break
        stop = _with_of(tokens, stop)
        phrase = " ".join(tokens[begin:stop])
        if len(words) + stop - end > _MAX_WORDS:
            break
        places.append((preposition, phrase))
        words += [*preposition.split(), *tokens[begin:stop]]
        end = stop
    if verb.needs_object and not thing and not places:
        return None, end
    text = " ".join(words)
    return Action(verb.base, verb.gerund, text, thing, tuple(places)), end


def _begins_place(tokens: Sequence[str], place: int) -> bool:
    """ "down the hill", but "down" alone in "sits down"."""
    token = tokens[place]
    behind = tokens[place + 1 : place + 2]
    if token not in PREPOSITIONS or not behind:
        return False
    return noun_phrase(tokens, place + 1) > place + 1 or behind[0] in {
        "of",
        "to",
        "from",
    }


def _is_place(
    verb: str, preposition: str, tokens: Sequence[str], begin: int, has_object: bool
) -> bool:
    """Whether a phrase with this preposition may stay in the action."""
    if preposition in _SKIPPED_PREPOSITIONS or begin >= len(tokens):
        return False
    if preposition == "with":
        return verb in _WITH_VERBS and not has_object
    if preposition == "to":
        following = verb_at(tokens, begin)
        return following is None or following.form != "base"
    if preposition == "in":
        end = noun_phrase(tokens, begin, may_be_colour=True)
        return end > begin and tokens[end - 1] not in CLOTHING | COLOURS.keys()
    return True


def _with_of(tokens: Sequence[str], end: int) -> int:
    """ "a body" → "a body of water", "front" → "front of a house"."""
    while tokens[end : end + 1] == ["of"]:
        stop = noun_phrase(tokens, end + 1)
        if stop == end + 1:
            return end
        end = stop
    return end


def _with_second(tokens: Sequence[str], end: int) -> int:
    """ "a bat" → "a bat and a ball", unless the second begins a clause."""
    if tokens[end : end + 1] != ["and"]:
        return end
    stop = noun_phrase(tokens, end + 1)
    behind = tokens[stop] if stop < len(tokens) else "."
    begins_clause = behind in {"is", "are"} or verb_at(tokens, stop) is not None
    if stop == end + 1 or begins_clause or verb_at(tokens, end + 1):
        return end
    return end if _has_agent(tokens[end + 1 : stop]) else stop


def _join(tokens: Sequence[str], mentions: list[Mention]) -> None:
    """Marks agents joined by "and": a plural verb behind the second speaks of both."""
    text = " ".join(tokens)
    for first, second in zip(mentions, mentions[1:], strict=False):
        nouns = r"[a-z-]+"
        pattern = rf"\b{_last(first)} (?:and|with) (?:{nouns} ){{0,4}}{_last(second)}\b"
        if re.search(pattern, text):
            first.with_others = second.with_others = True


def _last(mention: Mention) -> str:
    return re.escape(mention.description.split()[-1])


def _coloured(tokens: Sequence[str]) -> list[tuple[str, tuple[str, ...]]]:
    """Things and agents with their colours: ("shirt", ("red",))."""
    found: list[tuple[str, tuple[str, ...]]] = []
    place = 0
    while place < len(tokens):
        if tokens[place] not in COLOURS:
            place += 1
            continue
        end = noun_phrase(tokens, place)
        if end == place:
            place += 1
            continue
        phrase = tokens[place:end]
        head = phrase[-1]
        colours = [COLOURS[word] for word in phrase if word in COLOURS]
        # "light blue", "dark brown" stay blue and brown; "black haired" is of the hair.
        is_clear = not any(word.endswith(_OF_A_PART) for word in phrase)
        if is_clear and head not in lexicon.verbs():
            found.append((head, tuple(dict.fromkeys(colours))))
        place = end
    return found


def _all_places(tokens: Sequence[str]) -> list[tuple[str, str]]:
    found = []
    for place, token in enumerate(tokens):
        if token in PREPOSITIONS:
            end = noun_phrase(tokens, place + 1)
            if end > place + 1:
                found.append((token, " ".join(tokens[place + 1 : end])))
    return found
