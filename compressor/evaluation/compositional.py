"""Whether embeddings know how words go together: SugarCrepe and Winoground, from local files.

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


def read_sugarcrepe(folder: Path, images: Path, usable: Usable) -> Mapping[str, list[WrongCaption]]:
    """The questions of each category, a JSON file each (`swap_att.json`, …). Raises DataInvalid."""
    files = sorted(folder.glob("*.json"))
    found = {file.stem: list(_wrong_captions(file, images, usable)) for file in files}
    usable.finish(folder)
    return {category: questions for category, questions in found.items() if questions}


def _wrong_captions(file: Path, images: Path, usable: Usable) -> Iterator[WrongCaption]:
    entries = read_json(file)
    if not isinstance(entries, dict | list):
        raise DataInvalid(f"{file} is not of SugarCrepe's format")
    for entry in entries.values() if isinstance(entries, dict) else entries:
        texts = [
            entry.get(key) if isinstance(entry, dict) else None
            for key in ("caption", "negative_caption")
        ]
        if not all(isinstance(text, str) and text.strip() for text in texts):
            usable.skip("no caption")
        elif not (path := images / str(entry.get("filename") or "")).is_file():
            usable.skip("no image")
        else:
            usable.used += 1
            yield WrongCaption(path, str(texts[0]), str(texts[1]))


def read_winoground(file: Path, images: Path, usable: Usable) -> list[Crossed]:
    """The questions of an `examples.jsonl`; image names may leave out `.png`. Raises DataInvalid."""
    found = []
    for entry in read_lines(file, usable):
        captions = [entry.get(f"caption_{n}") for n in (0, 1)]
        paths = [_picture(images, str(entry.get(f"image_{n}") or "")) for n in (0, 1)]
        if not all(isinstance(text, str) and text.strip() for text in captions):
            usable.skip("no caption")
        elif None in paths:
            usable.skip("no image")
        else:
            usable.used += 1
            one, other = (path for path in paths if path)
            found.append(Crossed((one, other), (str(captions[0]), str(captions[1]))))
    usable.finish(file)
    return found


def _picture(images: Path, name: str) -> Path | None:
    return next((path for path in (images / name, images / f"{name}.png") if path.is_file()), None)


def winoground_scores(scores: NDArray[np.float32]) -> dict[str, float]:
    """Percent from scores (questions, 2 captions, 2 images): text, image and group score (the
    paper's section 4).

    Text: each image scores higher with its own caption; image: each caption with its own image;
    group: both.
    """
    text = (scores[:, 0, 0] > scores[:, 1, 0]) & (scores[:, 1, 1] > scores[:, 0, 1])
    image = (scores[:, 0, 0] > scores[:, 0, 1]) & (scores[:, 1, 1] > scores[:, 1, 0])
    told = {"text": text, "image": image, "group": text & image}
    return {name: _percent(right.tolist()) for name, right in told.items()}


def sugarcrepe_scores(right: Mapping[str, Sequence[bool]]) -> dict[str, float]:
    """Percent right of each category, and the mean over categories."""
    found = {category: _percent(given) for category, given in right.items()}
    return {**found, "mean": round(sum(found.values()) / len(found), 1)}


def _percent(right: Sequence[bool]) -> float:
    return round(100 * sum(right) / len(right), 1)
