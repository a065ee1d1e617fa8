"""Questions about images with people's answers, from local files, and the scores of an answer.

The files are VQAv2's two JSON files, or JSON lines.

VQA accuracy: Antol et al., "VQA: Visual Question Answering" (ICCV 2015), section 3. The
normalisation that it rests on is that of visualqa.org/evaluation.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compressor.errors import DataInvalid
from compressor.evaluation.usable import Usable, read_json, read_lines

_ARTICLES = frozenset({"a", "an", "the"})
_NUMBER_WORDS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
)  # fmt: skip
_DIGITS = {
    "none": "0",
    **{word: str(number) for number, word in enumerate(_NUMBER_WORDS)},
}
# Short forms that people write without the apostrophe: stem and ending.
_SHORT_FORMS = {
    "n't": (
        "ai", "are", "could", "did", "does", "do", "had", "has", "have", "is", "might", "must",
        "need", "should", "was", "were", "would", "wo", "ca",
    ),
    "'ve": ("could", "i", "might", "must", "should", "they", "we", "would", "you", "who",),
    "'re": ("there", "they", "you"),
    "'m": ("i",),
    "'s": ("how", "that", "there", "what", "when", "where", "who", "why", "here",),
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
    """Lower case, no articles, no punctuation, digits for number words, full short forms."""
    text = " ".join(answer.lower().split())
    # Thousands: 1,000 is one number.
    text = re.sub(r"(?<=\d),(?=\d)", "", text)
    # A mark between two words parts them; one beside a space, or at an end, is nothing.
    text = _PUNCTUATION.sub(
        lambda mark: "" if _beside_space(text, mark.start()) else " ", text
    )
    text = text.replace(",", " ")
    # Decimal points stay.
    text = re.sub(r"(?<!\d)\.|\.(?!\d)", "", text)
    words = [_DIGITS.get(word, word) for word in text.split() if word not in _ARTICLES]
    return " ".join(_CONTRACTIONS.get(word, word) for word in words)


def _beside_space(text: str, place: int) -> bool:
    before = text[max(0, place - 1) : place]
    after = text[place + 1 : place + 2]
    return before in ("", " ") or after in ("", " ")


def vqa_accuracy(answer: str, people: Sequence[str]) -> float:
    """VQA accuracy, 0 to 1: min(1, people with that answer / 3), averaged over all sets of people
    but one.
    """
    wanted = normalised(answer)
    same = [normalised(of_person) == wanted for of_person in people]
    # With one answer there is no set of all people but one.
    if len(people) == 1:
        return float(same[0])
    total = sum(same)
    # Leaving one person out makes a model's score comparable with that person's own.
    scores = [min(1.0, (total - own) / 3) for own in same]
    return sum(scores) / len(people)


def exact_match(answer: str, accepted: Sequence[str]) -> float:
    """1 if the normalised answer is one of the accepted ones, else 0."""
    return float(normalised(answer) in set(map(normalised, accepted)))


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
    questions: Path,
    annotations: Path,
    images: Path,
    names: str,
    usable: Usable,
) -> list[AskedImage]:
    """VQAv2's questions and annotations.

    `names` makes a file's name of an image id ("COCO_val2014_{:012d}.jpg"). Raises DataInvalid.
    """
    answers = _answers_of_people(annotations)
    asked: list[AskedImage] = []
    for entry in _entries(questions, "questions"):
        try:
            path = images / names.format(entry["image_id"])
            question, number = str(entry["question"]), entry["question_id"]
        except (KeyError, ValueError, IndexError):
            usable.skip("a broken question")
            continue
        _take(
            asked,
            AskedImage(path, question, answers.get(number, ())),
            usable,
        )
    usable.finish(questions)
    return asked


def _answers_of_people(annotations: Path) -> dict[Any, tuple[str, ...]]:
    """The answers by the question's id."""
    # By id, for the two files need not have the same order or the same length.
    answers = {}
    for entry in _entries(annotations, "annotations"):
        people = entry.get("answers") or ()
        texts = [str(person["answer"]) for person in people if _has_answer(person)]
        answers[entry.get("question_id")] = tuple(texts)
    return answers


def _has_answer(person: object) -> bool:
    return isinstance(person, dict) and "answer" in person


def read_answers(
    file: Path,
    images: Path,
    usable: Usable,
) -> list[AskedImage]:
    """JSON lines with `image`, `question`, and `answer` or a list `answers`. Raises DataInvalid."""
    asked: list[AskedImage] = []
    for entry in read_lines(file, usable):
        # One answer or several: published sets use either form.
        default = [entry["answer"]] if "answer" in entry else []
        answers = entry.get("answers", default)
        texts = tuple(map(str, answers)) if isinstance(answers, list) else ()
        question, name = entry.get("question"), entry.get("image")
        if (
            not isinstance(question, str)
            or not isinstance(name, str)
            or not question.strip()
        ):
            usable.skip("no question")
        else:
            _take(
                asked,
                AskedImage(images / name, question, texts),
                usable,
            )
    usable.finish(file)
    return asked


def _take(
    asked: list[AskedImage],
    image: AskedImage,
    usable: Usable,
) -> None:
    if not image.answers:
        usable.skip("no answer")
    elif not image.path.is_file():
        usable.skip("no image")
    else:
        usable.used += 1
        asked.append(image)


def _entries(file: Path, name: str) -> list[dict[str, Any]]:
    content = read_json(file)
    entries = content.get(name) if isinstance(content, dict) else None
    if not isinstance(entries, list) or not all(
        isinstance(entry, dict) for entry in entries
    ):
        raise DataInvalid(f"{file} is not of VQA's format: no list of {name}")
    return entries
