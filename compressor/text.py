"""The form in which models read search texts and captions, so that spelling variants agree."""

from __future__ import annotations

import unicodedata

# Only marks that end a sentence: a closing bracket or quotation mark belongs to the words in it.
_SENTENCE_ENDS = ".,;:!?。、؟।"
_SENTENCE_STARTS = "¿¡"
# Control and format characters show nothing: a byte order mark, a soft hyphen, a mark of direction.
_INVISIBLE = frozenset({"Cc", "Cf"})
_JOINERS = (
    "\u200c\u200d"  # of Persian and Indic letters, and of emoji: part of the spelling
)


def normalise_text(text: str) -> str:
    """NFKC, lower case, single spaces, nothing invisible and no punctuation at the end; empty if
    nothing else is left.

    "Zebra.", "ZEBRA" and " zebra" become "zebra". Applying it twice changes nothing.
    """
    # Lower case and not Unicode's case folding, which spells "ß" as "ss": models read words as
    # people write them.
    lowered = unicodedata.normalize("NFKC", text).lower()
    # Some letters come out of `lower` decomposed.
    composed = unicodedata.normalize("NFKC", "".join(filter(_is_read, lowered)))
    words = " ".join(composed.split()).lstrip(_SENTENCE_STARTS + " ").split()
    while words:
        words[-1] = words[-1].rstrip(_SENTENCE_ENDS)
        if words[-1]:
            break
        words.pop()
    return " ".join(words)


def _is_read(character: str) -> bool:
    if character.isspace() or character in _JOINERS:
        return True
    return unicodedata.category(character) not in _INVISIBLE
