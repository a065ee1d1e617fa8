"""When two short answers say the same: VQA accuracy and the normalisation it rests on.

Antol et al., "VQA: Visual Question Answering" (ICCV 2015), section 3; the normalisation is that of
visualqa.org/evaluation. Knows nothing of images or files.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_ARTICLES = frozenset({"a", "an", "the"})
_DIGITS = {
    "none": "0", "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7",
    "eight": "8", "nine": "9", "ten": "10",
}  # fmt: skip
# Short forms that people write without the apostrophe: stem and ending.
_SHORT_FORMS = {
    "n't": (
        "ai", "are", "could", "did", "does", "do", "had", "has", "have", "is", "might", "must", "need", "should", "was",
        "were", "would", "wo", "ca",
    ),
    "'ve": ("could", "i", "might", "must", "should", "they", "we", "would", "you", "who"),
    "'re": ("there", "they", "you"),
    "'m": ("i",),
    "'s": ("how", "that", "there", "what", "when", "where", "who", "why", "here"),
    "'d": ("how", "it", "that", "there", "they", "what", "who", "you"),
    "'ll": ("it", "that", "they", "what", "who", "you"),
}  # fmt: skip
_CONTRACTIONS = {
    stem + ending.replace("'", ""): stem + ending for ending, stems in _SHORT_FORMS.items() for stem in stems
}
_PUNCTUATION = re.compile(r"""[;/\[\]"{}()=+\\_\-><@`?!]""")


def normalised(answer: str) -> str:
    """Small letters, no articles, digits for number words, apostrophes in short forms, no punctuation within words."""
    text = " ".join(answer.lower().split())
    text = re.sub(r"(?<=\d),(?=\d)", "", text)
    # A mark between two words parts them; one beside a space, or at an end, is nothing.
    text = _PUNCTUATION.sub(lambda mark: "" if _beside_space(text, mark.start()) else " ", text)
    text = text.replace(",", " ")
    text = re.sub(r"(?<!\d)\.|\.(?!\d)", "", text)
    words = [_DIGITS.get(word, word) for word in text.split() if word not in _ARTICLES]
    return " ".join(_CONTRACTIONS.get(word, word) for word in words)


def _beside_space(text: str, place: int) -> bool:
    return text[max(0, place - 1) : place] in ("", " ") or text[place + 1 : place + 2] in ("", " ")


def vqa_accuracy(answer: str, people: Sequence[str]) -> float:
    """0 to 1: in each set of all people but one, a third for each with that answer, at most 1; the mean over sets."""
    given = normalised(answer)
    same = [normalised(each) == given for each in people]
    if len(people) == 1:
        return float(same[0])
    total = sum(same)
    return sum(min(1.0, (total - own) / 3) for own in same) / len(people)


def exact_match(answer: str, accepted: Sequence[str]) -> float:
    """1 if the normalised answer is one of the accepted ones, else 0."""
    return float(normalised(answer) in {normalised(each) for each in accepted})
