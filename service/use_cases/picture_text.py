"""The text in pictures: kept in an image's metadata, searched, and told to the second pass.

The metadata hold it under one key: {"text": {"lines": ["STOP"], "words": ["stop"]}}. There it is
stored, filtered, shown and corrected as all metadata are.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from compressor.text import normalise_text
from index.filters import (
    MAX_CONDITIONS,
    MAX_TEXT_CHARACTERS,
    Condition,
    Filter,
)

TEXT = "text"  # key of the metadata
LINES, WORDS = "lines", "words"
MAX_TEXT_BYTES = 2000  # of the lines of a picture; a page of print is more
_MAX_TOLD_CHARACTERS = 1000  # of all pictures of a question
CANNOT_READ = "I cannot read text in this picture."

_WORD = re.compile(r"\w+")
# A question with one of these is about text.
_READING = frozenset(("read", "reads", "say", "says", "spell", "spelled", "written"))
# A thing that bears text: "What is the sign?" asks for the text, "Is there a sign?" and "What color
# is the sign?" for the thing.
_BEARERS = frozenset(
    (
        "text", "writing", "sign", "signs", "word", "words", "letter", "letters", "caption",
        "inscription",
    )
)  # fmt: skip
_PLATES = ("number plate", "license plate", "licence plate")
_OPENINGS = ("what", "which")
_COLOUR_OPENINGS = ("what color", "what colour", "which color", "which colour")


def text_metadata(lines: Sequence[str]) -> dict[str, Any]:
    """What the metadata of an image say of the lines of text in its picture; empty without any."""
    kept: list[str] = []
    words: dict[str, None] = {}
    room = MAX_TEXT_BYTES
    for line in lines:
        composed = unicodedata.normalize("NFC", line)[:MAX_TEXT_CHARACTERS]
        room -= len(composed.encode())
        if room < 0:
            break
        kept.append(composed)
        words.update(dict.fromkeys(words_of(composed)))
    return {TEXT: {LINES: kept, WORDS: list(words)}} if kept else {}


def words_of(text: str) -> list[str]:
    """The words of a text, in the form in which they are compared."""
    return _WORD.findall(normalise_text(text))


def picture_text(metadata: Mapping[str, Any]) -> str:
    """The lines of text in an image's metadata as one text; empty without any."""
    # Clients may write anything under the key.
    text = metadata.get(TEXT)
    lines = text.get(LINES) if isinstance(text, Mapping) else None
    if not isinstance(lines, list):
        return ""
    return " ".join(line for line in lines if isinstance(line, str))


def with_text(where: Filter | None, query: str) -> Filter | None:
    """`where`, and that the picture has every word of the query.

    None for a query of no word, and for one of more words than a filter has conditions.
    """
    words = dict.fromkeys(words_of(query))
    own = where or Filter(())
    if not words or len(words) + own.condition_count() > MAX_CONDITIONS:
        return None
    name = f"{TEXT}.{WORDS}"
    conditions = [Condition(name, (("eq", word),)) for word in words]
    return replace(own, conditions=(*own.conditions, *conditions))


def is_about_text(question: str) -> bool:
    """Whether a question asks for the text in a picture: a rule on its words."""
    words = words_of(question)
    if not _READING.isdisjoint(words):
        return True
    plain = " ".join(words)
    if not plain.startswith(_OPENINGS) or plain.startswith(_COLOUR_OPENINGS):
        return False
    has_plate = any(plate in plain for plate in _PLATES)
    return has_plate or not _BEARERS.isdisjoint(words)


def with_picture_text(texts: Sequence[str], question: str) -> str:
    """The question behind what the pictures say.

    Cut to a number of characters that leaves room for the question in the model's context.
    """
    room = _MAX_TOLD_CHARACTERS // len(texts)
    told = " ".join(f'The picture says "{text[:room]}".' for text in texts)
    return f"{told} {question}"
