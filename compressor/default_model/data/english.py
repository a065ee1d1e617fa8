"""Names of objects in composed scenes, and the English around them: articles, plurals, numbers.

The names are in names.tsv: category, name, and other titles that mean it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

NUMBERS = (
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
)

# Categories that can be asked for ("Is there a vehicle?"): category → word. The names of the other
# categories are no everyday words.
CATEGORY_WORDS = {
    "animal": "animal",
    "bird": "bird",
    "insect": "insect",
    "fruit": "fruit",
    "vegetable": "vegetable",
    "vehicle": "vehicle",
    "tool": "tool",
    "instrument": "musical instrument",
    "building": "building",
    "plant": "plant",
}

# Words in front of a name in a title that do not change what the thing is.
_ADJECTIVES = frozenset(
    {
        "a", "an", "the", "some", "pair", "of", "black", "white", "grey", "gray", "red", "orange",
        "yellow", "green", "blue", "purple", "pink", "brown", "golden", "silver", "big", "small",
        "large", "little", "tiny", "old", "new", "happy", "simple", "cartoon", "baby", "very",
        "lit", "wooden", "colorful", "beautiful", "nice", "cute", "flying", "sleeping", "sitting",
        "lumen", "classic", "modern", "plain", "generic", "stylized", "isometric",
    }
)  # fmt: skip
_IRREGULAR = {
    "mouse": "mice", "goose": "geese", "sheep": "sheep", "fish": "fish", "goldfish": "goldfish",
    "deer": "deer", "squid": "squid", "shrimp": "shrimp", "knife": "knives", "leaf": "leaves",
    "wolf": "wolves", "tooth": "teeth", "foot": "feet", "die": "dice", "ox": "oxen",
    "calf": "calves", "loaf": "loaves", "bison": "bison", "moose": "moose", "salmon": "salmon",
    "snowman": "snowmen", "clownfish": "clownfish", "lionfish": "lionfish",
    "butterflyfish": "butterflyfish", "jellyfish": "jellyfish", "crayfish": "crayfish",
    "angelfish": "angelfish", "blowfish": "blowfish", "man": "men", "woman": "women",
    "child": "children", "person": "people", "guinea fowl": "guinea fowl", "scarf": "scarves",
    "caribou": "caribou", "aircraft": "aircraft",
}  # fmt: skip
_O_WITH_ES = frozenset({"potato", "tomato", "mango", "volcano", "mosquito", "buffalo"})
_SILENT_OR_SPELT = re.compile(r"^(hour|honest|heir|x-ray|lcd)", re.IGNORECASE)
_SOUNDS_LIKE_A_CONSONANT = re.compile(
    r"^(uni(?!nt)|use|usu|ute|eu|one\b|ukulele|ufo)", re.IGNORECASE
)


@dataclass(frozen=True)
class Name:
    """A name an object can have."""

    text: str  # singular, lower case: "apple", "fire truck", "pair of scissors"
    category: str


@cache
def names() -> dict[str, Name]:
    """All names by their text."""
    return {name.text: name for name in _table().values()}


def lookup(title: str) -> Name | None:
    """The name that a picture's title means ("A red apple." → apple); None for an unknown one."""
    words = re.sub(r"[^a-z]+", " ", re.sub(r"\([^)]*\)", " ", title.lower())).split()
    while words:
        name = _table().get(" ".join(words))
        if name:
            return name
        # Leading adjectives go one by one, for a name may start with one ("black bear").
        if words[0] not in _ADJECTIVES:
            return None
        words = words[1:]
    return None


def with_article(noun: str) -> str:
    """ "apple" → "an apple"."""
    # By sound: "a unicorn", "an hour", "an X-ray".
    vowel = noun[:1].lower() in "aeiou" and not _SOUNDS_LIKE_A_CONSONANT.match(noun)
    return f"{'an' if vowel or _SILENT_OR_SPELT.match(noun) else 'a'} {noun}"


def plural(noun: str) -> str:
    """ "pair of scissors" → "pairs of scissors", "fire truck" → "fire trucks"."""
    # The head takes the ending: "cups of coffee".
    head, of, rest = noun.partition(" of ")
    if noun in _IRREGULAR:
        return _IRREGULAR[noun]
    before, _, last = head.rpartition(" ")
    if last in _IRREGULAR:
        last = _IRREGULAR[last]
    elif last in _O_WITH_ES or last.endswith(("s", "x", "z", "ch", "sh")):
        last += "es"
    elif last.endswith("y") and last[-2:-1] not in "aeiou-":
        last = last[:-1] + "ies"
    else:
        last += "s"
    return f"{before} {last}".strip() + of + rest


def counted(count: int, noun: str) -> str:
    """(1, "apple") → "an apple"; (3, "apple") → "three apples"."""
    return with_article(noun) if count == 1 else f"{NUMBERS[count]} {plural(noun)}"


@cache
def _table() -> dict[str, Name]:
    """Every known title → the name it means."""
    table: dict[str, Name] = {}
    lines = (
        Path(__file__)
        .with_name("names.tsv")
        .read_text(encoding="utf-8")
        .splitlines()[1:]
    )
    for line in lines:
        category, text, aliases = line.split("\t")
        name = Name(text, category)
        for title in (text, *filter(None, aliases.split("|"))):
            table[" ".join(re.sub(r"[^a-z]+", " ", title).split())] = name
    return table
