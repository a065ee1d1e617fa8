"""The lexicon of captions: who acts, verbs and their forms, colours, and words that end a phrase.

The words are in lexicon.toml. A word that is not there is no error: the parser drops a
clause that it cannot read.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from compressor.default_model.data.english import plural


@cache
def _tables() -> dict[str, Any]:
    path = Path(__file__).with_name("lexicon.toml")
    return tomllib.loads(path.read_text(encoding="utf-8"))


def table(name: str) -> Any:
    """A table of the lexicon."""
    return _tables()[name]


@cache
def words(name: str) -> frozenset[str]:
    """The words of a list of the lexicon."""
    return frozenset(_tables()[name].split())


DETERMINERS = words("determiners")
POSSESSIVES = words("possessives")
MANY_WORDS = words("uncounted")
ADJECTIVES = words("adjectives")
ADVERBS = words("adverbs")
PREPOSITIONS = words("prepositions")
PARTICLES = words("particles")
PARTICIPLES = words("participles")
PRONOUNS = words("pronouns")
ENDS = words("ends")
CLOTHING = words("clothing")
INTRANSITIVE = words("intransitive")
NEVER_VERBS = words("never_verbs")
ANIMALS = frozenset(_tables()["animals"])
PEOPLE = frozenset(_tables()["people"])
# "A group of men" has no number; "a couple of men" has.
COLLECTIVES = {
    "group": None, "crowd": None, "bunch": None, "team": None, "line": None, "pack": None,
    "herd": None, "flock": None, "row": None, "lot": None, "number": None, "variety": None,
    "couple": 2, "pair": 2, "trio": 3, "duo": 2,
}  # fmt: skip
NUMBERS = {
    "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8,
    "nine": 9, "ten": 10, "1": 1, "2": 2, "3": 3, "4": 4, "5": 5, "6": 6,
}  # fmt: skip
COLOURS = {
    "black": "black", "white": "white", "brown": "brown", "red": "red", "blue": "blue",
    "green": "green", "yellow": "yellow", "orange": "orange", "pink": "pink", "purple": "purple",
    "gray": "gray", "grey": "gray", "tan": "tan", "golden": "golden", "gold": "gold",
    "silver": "silver", "beige": "beige", "cream": "cream",
}  # fmt: skip
# What one caption calls tan, another calls brown: neither contradicts the other.
COLOUR_FAMILIES = (
    frozenset({"brown", "tan", "golden", "beige", "cream", "gold", "yellow", "orange"}),
    frozenset({"gray", "silver", "black"}),
    frozenset({"white", "cream", "beige"}),
    frozenset({"red", "orange", "pink"}),
    frozenset({"purple", "pink", "blue"}),
    frozenset({"gray", "white"}),
)


@dataclass(frozen=True)
class Agent:
    """A noun for somebody who acts."""

    noun: str  # singular
    category: (
        str  # "man", "woman", "boy", "girl", "child", "baby", "person", or an animal
    )
    is_plural: bool = False


@dataclass(frozen=True)
class Verb:
    """A verb of the lexicon, met in some form."""

    base: str
    gerund: str
    form: str  # "gerund", "third" or "base"
    needs_object: bool  # or a place: "holding" alone says nothing
    needs_infinitive: bool  # "trying to …"


def gerund(base: str) -> str:
    """ "run" → "running"."""
    if base in {"lie", "tie", "die"}:
        return base[:-2] + "ying"
    if base in words("doubled"):
        return f"{base}{base[-1]}ing"
    if base.endswith("e") and not base.endswith(("ee", "oe", "ye")):
        return base[:-1] + "ing"
    return base + "ing"


@cache
def verbs() -> dict[str, Verb]:
    """Every form of every verb."""
    table: dict[str, Verb] = {}
    for entry in _tables()["verbs"].split():
        base = entry.rstrip("+~")
        ing = gerund(base)
        third = "does" if base == "do" else plural(base)
        for form, text in {"gerund": ing, "third": third, "base": base}.items():
            needs = entry.endswith("+"), entry.endswith("~")
            table[text] = Verb(base, ing, form, *needs)
    # "A dog lays on a bed" means that it lies there.
    for form, text in {"gerund": "laying", "third": "lays", "base": "lay"}.items():
        table[text] = Verb("lie", "lying", form, True, False)
    return table


# The singular of those whose plural English.plural does not know.
_PLURALS = {
    "policeman": "policemen", "fisherman": "fishermen", "gentleman": "gentlemen",
    "businessman": "businessmen", "goose": "geese",
}  # fmt: skip


@cache
def agents() -> dict[str, Agent]:
    """Nouns of agents, singular and plural."""
    table: dict[str, Agent] = {}
    for category, nouns in (_tables()["people"] | _tables()["animals"]).items():
        for noun in nouns.split():
            table[noun] = Agent(noun, category)
            many = _PLURALS.get(noun) or plural(noun)
            table.setdefault(many, Agent(noun, category, is_plural=many != noun))
    table["shepherd"] = Agent("dog", "dog")  # of captions: German ones
    return table
