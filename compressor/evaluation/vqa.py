"""Questions about images with people's answers, from local files: VQAv2's two JSON files, or JSON
lines.

Knows nothing of models.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compressor.errors import DataInvalid
from compressor.evaluation.usable import Usable, read_json, read_lines

# When two short answers say the same: VQA accuracy and the normalisation it rests on. Antol et al.,
# "VQA: Visual Question Answering" (ICCV 2015), section 3; the normalisation is that of
# visualqa.org/evaluation.


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
    stem + ending.replace("'", ""): stem + ending
    for ending, stems in _SHORT_FORMS.items()
    for stem in stems
}
_PUNCTUATION = re.compile(r"""[;/\[\]"{}()=+\\_\-><@`?!]""")


def normalised(answer: str) -> str:
    """Small letters, no articles, digits for number words, apostrophes in short forms, no
    punctuation within words.
    """
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
    """0 to 1: in each set of all people but one, a third for each with that answer, at most 1; the
    mean over sets.
    """
    given = normalised(answer)
    same = [normalised(each) == given for each in people]
    if len(people) == 1:
        return float(same[0])
    total = sum(same)
    return sum(min(1.0, (total - own) / 3) for own in same) / len(people)


def exact_match(answer: str, accepted: Sequence[str]) -> float:
    """1 if the normalised answer is one of the accepted ones, else 0."""
    return float(normalised(answer) in {normalised(each) for each in accepted})


SCORES: dict[str, Callable[[str, Sequence[str]], float]] = {
    "vqa": vqa_accuracy,
    "exact": exact_match,
}


@dataclass(frozen=True)
class AskedImage:
    """A question about an image and the answers that people gave."""

    path: Path
    question: str
    answers: tuple[str, ...]


def read_vqa(
    questions: Path, annotations: Path, images: Path, names: str, usable: Usable
) -> list[AskedImage]:
    """VQAv2's questions and annotations; `names` makes a file's name of an image id
    ("COCO_val2014_{:012d}.jpg").

    Raises DataInvalid.
    """
    answers = {
        entry.get("question_id"): tuple(
            str(each["answer"])
            for each in entry.get("answers") or ()
            if isinstance(each, dict) and "answer" in each
        )
        for entry in _entries(annotations, "annotations")
    }
    found = []
    for entry in _entries(questions, "questions"):
        try:
            path = images / names.format(entry["image_id"])
            question, given = str(entry["question"]), answers.get(entry["question_id"], ())
        except (KeyError, ValueError, IndexError):
            usable.skip("a broken question")
            continue
        _take(found, AskedImage(path, question, given), usable)
    usable.finish(questions)
    return found


def read_answers(file: Path, images: Path, usable: Usable) -> list[AskedImage]:
    """JSON lines with `image`, `question`, and `answer` or a list `answers`. Raises DataInvalid."""
    found: list[AskedImage] = []
    for entry in read_lines(file, usable):
        given = entry.get("answers", [entry["answer"]] if "answer" in entry else [])
        answers = tuple(str(each) for each in given) if isinstance(given, list) else ()
        question, name = entry.get("question"), entry.get("image")
        if not isinstance(question, str) or not isinstance(name, str) or not question.strip():
            usable.skip("no question")
        else:
            _take(found, AskedImage(images / name, question, answers), usable)
    usable.finish(file)
    return found


def _take(found: list[AskedImage], asked: AskedImage, usable: Usable) -> None:
    if not asked.answers:
        usable.skip("no answer")
    elif not asked.path.is_file():
        usable.skip("no image")
    else:
        usable.used += 1
        found.append(asked)


def _entries(file: Path, name: str) -> list[dict[str, Any]]:
    content = read_json(file)
    entries = content.get(name) if isinstance(content, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise DataInvalid(f"{file} is not of VQA's format: no list of {name}")
    return entries
