"""Questions about images with people's answers, from local files: VQAv2's two JSON files, or JSON lines.

Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compressor.errors import DataInvalid
from compressor.evaluation.usable import Usable, read_json, read_lines
from compressor.evaluation.vqa_text import exact_match, vqa_accuracy

SCORES: dict[str, Callable[[str, Sequence[str]], float]] = {"vqa": vqa_accuracy, "exact": exact_match}


@dataclass(frozen=True)
class AskedImage:
    """A question about an image and the answers that people gave."""

    path: Path
    question: str
    answers: tuple[str, ...]


def read_vqa(questions: Path, annotations: Path, images: Path, names: str, usable: Usable) -> list[AskedImage]:
    """VQAv2's questions and annotations; `names` makes a file's name of an image id ("COCO_val2014_{:012d}.jpg").

    Raises DataInvalid.
    """
    answers = {
        entry.get("question_id"): tuple(
            str(each["answer"]) for each in entry.get("answers") or () if isinstance(each, dict) and "answer" in each
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
