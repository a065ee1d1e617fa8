"""English around a noun: articles, plurals, number words."""

from __future__ import annotations

import re

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
