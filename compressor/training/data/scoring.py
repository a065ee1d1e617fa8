"""When an answer counts as right: one rule for each kind of expected answer.

Knows nothing of images. An answer is judged by the first word that decides; what follows it is not read.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from compressor.training.data.colours import COLOURS
from compressor.training.data.vocabulary import NUMBERS

_SIDES = {"left": "left", "right": "right"}
_HEIGHTS = {"top": "top", "above": "top", "bottom": "bottom", "below": "bottom"}
_NUMBER_OF = {**{word: word for word in NUMBERS}, **{str(value): word for value, word in enumerate(NUMBERS)}}
_COLOUR_OF = {**{word: word for word in COLOURS}, "gray": "grey"}


def name_is_right(answer: str, label: str) -> bool:
    """The label or its last word stands in the answer, whole words, singular or plural, in any case."""
    words = _words(answer)
    text = f" {' '.join(words)} "
    wanted = _words(label)
    return f" {' '.join(wanted)} " in text or any(
        form in words for form in (wanted[-1], wanted[-1] + "s", wanted[-1] + "es")
    )


def colour_is_right(answer: str, colour: str) -> bool:
    """The first basic colour word of the answer is the one; gray is grey."""
    return _first(answer, _COLOUR_OF) == _COLOUR_OF[colour]


def number_is_right(answer: str, number: str) -> bool:
    """The first number of the answer, in a word or digits, is the one."""
    return _first(answer, _NUMBER_OF) == _NUMBER_OF[number]


def yes_or_no_is_right(answer: str, expected: str) -> bool:
    """The first word of the answer is the expected yes or no."""
    return _words(answer)[:1] == [expected]


def side_is_right(answer: str, expected: str) -> bool:
    """The first of left and right in the answer is the expected one."""
    return _first(answer, _SIDES) == expected


def height_is_right(answer: str, expected: str) -> bool:
    """The first of top (or above) and bottom (or below) in the answer is the expected one."""
    return _first(answer, _HEIGHTS) == expected


SCORERS: dict[str, Callable[[str, str], bool]] = {
    "name": name_is_right,
    "colour": colour_is_right,
    "number": number_is_right,
    "yes_no": yes_or_no_is_right,
    "side": side_is_right,
    "height": height_is_right,
}


def _first(answer: str, meanings: dict[str, str]) -> str | None:
    return next((meanings[word] for word in _words(answer) if word in meanings), None)


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+(?:['-][a-z0-9]+)*", text.lower())
