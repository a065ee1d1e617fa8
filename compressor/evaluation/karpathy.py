"""Retrieval in both directions over Flickr30k or COCO in Karpathy's splits, from local files.

The format is that of `dataset_flickr30k.json` and `dataset_coco.json` (Karpathy and Fei-Fei, CVPR
2015). Shapes: N images, M captions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compressor.errors import DataInvalid
from compressor.evaluation.usable import Usable, read_json

RANKS = (1, 5, 10)


@dataclass(frozen=True)
class CaptionedImage:
    """An image file and its human captions."""

    path: Path
    captions: tuple[str, ...]


def read_karpathy(file: Path, images: Path, split: str, usable: Usable) -> list[CaptionedImage]:
    """The images of a split; those without a file or a caption are skipped and counted. Raises
    DataInvalid.
    """
    entries = read_json(file)
    entries = entries.get("images") if isinstance(entries, dict) else None
    if not isinstance(entries, list):
        raise DataInvalid(f"{file} is not of Karpathy's format: no list of images")
    found = []
    for entry in entries:
        if not isinstance(entry, dict) or entry.get("split") != split:
            continue
        captions = tuple(
            text.strip()
            for sentence in entry.get("sentences") or ()
            if isinstance(sentence, dict)
            and isinstance(text := sentence.get("raw"), str)
            and text.strip()
        )
        path = images / str(entry.get("filepath") or "") / str(entry.get("filename") or "")
        if not path.is_file():
            usable.skip("no image")
        elif not captions:
            usable.skip("no caption")
        else:
            found.append(CaptionedImage(path, captions))
            usable.used += 1
    usable.finish(file)
    return found


def both_ways(
    images: NDArray[np.float32], captions: NDArray[np.float32], owners: Sequence[int]
) -> dict[str, float]:
    """Recall in percent at each rank, from embeddings (N, E) and (M, E); `owners` (M,) says whose
    each caption is.

    Text to image: the one right image is among the first. Image to text: any of the image's
    captions is. Of equal scores the wrong ones come first.
    """
    of_caption = np.asarray(owners)
    scores = captions @ images.T  # (M, N)
    own = scores[np.arange(len(captions)), of_caption]
    others = np.where(np.arange(len(images)) == of_caption[:, None], -np.inf, scores)
    text_place = (others >= own[:, None]).sum(axis=1)
    mine = of_caption[:, None] == np.arange(len(images))
    best_own = np.where(mine, scores, -np.inf).max(axis=0)
    image_place = (np.where(mine, -np.inf, scores) >= best_own).sum(axis=0)
    recalls = {f"text to image, R@{rank}": float((text_place < rank).mean()) for rank in RANKS}
    recalls |= {f"image to text, R@{rank}": float((image_place < rank).mean()) for rank in RANKS}
    return {name: round(100 * value, 1) for name, value in recalls.items()}
