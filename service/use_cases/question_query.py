"""A question rewritten into a search text: what it asks about, without the asking."""

from __future__ import annotations

import re

from compressor.text import normalise_text

# What is asked for is not what the picture shows: "What color is the car?" looks for a car.
_ASKED_FOR = re.compile(
    r"\b(what|which) (colou?rs?|kinds? of|types? of|sorts? of|breeds? of)\b|"
    r"\bhow (many|much|big|large|old|tall|long|far)\b"
)
_ABOUT_PICTURES = re.compile(
    r"\b(in|on|of) (the|this|that|these|those|my|our|any|all) "
    r"(photos?|photographs?|pictures?|images?|library|collection|album)\b|"
    r"\b(photos?|photographs?|pictures?|images?) (of|with|showing|where)\b"
)
_ASKING = frozenset(
    (
        "what", "what's", "which", "who", "who's", "whose", "where", "where's", "when", "why",
        "how", "is", "are", "was", "were", "am", "be", "been", "do", "does", "did", "can", "could",
        "will", "would", "should", "has", "have", "had", "there", "any", "it", "this", "that",
        "these", "those", "i", "you", "me", "my", "we", "us", "our", "please", "tell", "show",
        "find", "doing", "say", "says", "read", "reads", "written",
    )
)  # fmt: skip


def query_of(question: str) -> str:
    """The words of an English question that a picture can show; if there are none, all of it.

    A question in another language stays as it is, but for what looks English.
    """
    text = normalise_text(question)
    for phrase in (_ASKED_FOR, _ABOUT_PICTURES):
        text = phrase.sub(" ", text)
    words = [word for word in re.split(r"[\s,;:?!]+", text) if word]
    kept = [word for word in words if word not in _ASKING]
    shows_something = set(kept) - {
        "a",
        "an",
        "the",
        "in",
        "on",
        "at",
        "of",
        "to",
        "with",
    }
    return " ".join(kept) if shows_something else question
