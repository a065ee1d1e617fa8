"""Compositional understanding of embeddings: SugarCrepe and Winoground, from local files.

SugarCrepe (Hsieh et al., NeurIPS 2023): one image, a caption, and one that is wrong in one respect;
chance is 50 %. Winoground (Thrush et al., CVPR 2022): two images and two captions of the same
words; chance is 25, 25 and 16.7 %.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compressor.errors import DataInvalid
from compressor.evaluation.usable import Usable, read_json, read_lines


@dataclass(frozen=True)
class WrongCaption:
    """A SugarCrepe question: which of two captions is the image's."""

    path: Path
    caption: str
    negative: str


@dataclass(frozen=True)
class Crossed:
    """A Winoground question: which of two captions goes with which of two images."""

    images: tuple[Path, Path]
    captions: tuple[str, str]


def read_sugarcrepe(
    folder: Path,
    images: Path,
    usable: Usable,
) -> Mapping[str, list[WrongCaption]]:
    """The questions of each category, a JSON file each (`swap_att.json`, …). Raises DataInvalid."""
    categories: dict[str, list[WrongCaption]] = {}
    for file in sorted(folder.glob("*.json")):
        questions = list(_wrong_captions(file, images, usable))
        # A category without questions has no percent, and the mean over categories would fail.
        if questions:
            categories[file.stem] = questions
    usable.finish(folder)
    return categories


def _wrong_captions(
    file: Path,
    images: Path,
    usable: Usable,
) -> Iterator[WrongCaption]:
    content = read_json(file)
    if not isinstance(content, dict | list):
        raise DataInvalid(f"{file} is not of SugarCrepe's format")
    # The published files are objects keyed by a number; copies of them are often plain lists.
    for entry in content.values() if isinstance(content, dict) else content:
        if not isinstance(entry, dict):
            usable.skip("no caption")
            continue
        caption = _text(entry.get("caption"))
        negative = _text(entry.get("negative_caption"))
        path = images / str(entry.get("filename") or "")
        if caption is None or negative is None:
            usable.skip("no caption")
        elif not path.is_file():
            usable.skip("no image")
        else:
            usable.used += 1
            yield WrongCaption(path, caption, negative)


def read_winoground(
    file: Path,
    images: Path,
    usable: Usable,
) -> list[Crossed]:
    """The questions of an `examples.jsonl`; image names may lack `.png`. Raises DataInvalid."""
    questions = []
    for entry in read_lines(file, usable):
        captions = [_text(entry.get(f"caption_{number}")) for number in (0, 1)]
        paths = [_picture(images, entry.get(f"image_{number}")) for number in (0, 1)]
        texts = [caption for caption in captions if caption is not None]
        files = [path for path in paths if path is not None]
        if len(texts) < 2:
            usable.skip("no caption")
        elif len(files) < 2:
            usable.skip("no image")
        else:
            usable.used += 1
            questions.append(Crossed((files[0], files[1]), (texts[0], texts[1])))
    usable.finish(file)
    return questions


def _text(value: object) -> str | None:
    """A caption; None where there is none to read."""
    return value if isinstance(value, str) and value.strip() else None


def _picture(images: Path, name: object) -> Path | None:
    name = str(name or "")
    # The published list names images without their suffix, the published files have it.
    for path in (images / name, images / f"{name}.png"):
        if path.is_file():
            return path
    return None


def winoground_scores(scores: NDArray[np.float32]) -> dict[str, float]:
    """Percent from scores (questions, 2 captions, 2 images): text, image and group score.

    Text: each image scores higher with its own caption. Image: each caption scores higher with its
    own image. Group: both (Winoground, section 4).
    """
    own_first, own_second = scores[:, 0, 0], scores[:, 1, 1]
    # A caption with the question's other image; strictly less, so that a tie is wrong.
    first_caption, second_caption = scores[:, 0, 1], scores[:, 1, 0]
    text = (own_first > second_caption) & (own_second > first_caption)
    image = (own_first > first_caption) & (own_second > second_caption)
    return {
        "text": _percent(text.tolist()),
        "image": _percent(image.tolist()),
        "group": _percent((text & image).tolist()),
    }


def sugarcrepe_scores(right: Mapping[str, Sequence[bool]]) -> dict[str, float]:
    """Percent right of each category, and the mean over categories."""
    # Categories count alike in the mean, however many questions they have, as in the paper.
    percents = {category: _percent(answers) for category, answers in right.items()}
    mean = sum(percents.values()) / len(percents)
    return {**percents, "mean": round(mean, 1)}


def _percent(right: Sequence[bool]) -> float:
    return round(100 * sum(right) / len(right), 1)
