"""Retrieval in both directions over Flickr30k or COCO in Karpathy's splits, from local files.

The format is that of `dataset_flickr30k.json` and `dataset_coco.json` (Karpathy and Fei-Fei, CVPR
2015). Shapes: N images, M captions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


def read_karpathy(
    file: Path,
    images: Path,
    split: str,
    usable: Usable,
) -> list[CaptionedImage]:
    """The images of a split. Skips and counts those without a file or a caption.

    Raises DataInvalid.
    """
    content = read_json(file)
    entries = content.get("images") if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise DataInvalid(f"{file} is not of Karpathy's format: no list of images")
    captioned = []
    for entry in entries:
        if not isinstance(entry, dict) or entry.get("split") != split:
            continue
        captions = tuple(_captions(entry))
        # COCO's entries name a folder for each image, Flickr30k's do not.
        path = (
            images / str(entry.get("filepath") or "") / str(entry.get("filename") or "")
        )
        if not path.is_file():
            usable.skip("no image")
        elif not captions:
            usable.skip("no caption")
        else:
            captioned.append(CaptionedImage(path, captions))
            usable.used += 1
    usable.finish(file)
    return captioned


def _captions(entry: Mapping[str, Any]) -> Iterator[str]:
    for sentence in entry.get("sentences") or ():
        text = sentence.get("raw") if isinstance(sentence, dict) else None
        if isinstance(text, str) and text.strip():
            yield text.strip()


def both_ways(
    images: NDArray[np.float32],
    captions: NDArray[np.float32],
    owners: Sequence[int],
) -> dict[str, float]:
    """Recall in percent at each rank, from embeddings (N, E) and (M, E).

    `owners` (M,) is the image of each caption. Text to image: its one image is among the first.
    Image to text: any of its captions is.
    """
    # Both directions come from one table of scores, so that they are of the same embeddings.
    owner_of = np.asarray(owners)
    scores = captions @ images.T  # (M, N)
    is_pair = owner_of[:, None] == np.arange(len(images))
    wrong_scores = np.where(is_pair, -np.inf, scores)
    best_own_scores = np.where(is_pair, scores, -np.inf).max(axis=0)
    text_rank = text_to_image_ranks(scores, owner_of)
    image_rank = (wrong_scores >= best_own_scores).sum(axis=0)
    recalls: dict[str, float] = {}
    for direction, ranks in (
        ("text to image", text_rank),
        ("image to text", image_rank),
    ):
        for rank in RANKS:
            percent = 100 * float((ranks < rank).mean())
            recalls[f"{direction}, R@{rank}"] = round(percent, 1)
    return recalls


def text_to_image_ranks(
    scores: NDArray[np.float32], owners: NDArray[np.int64]
) -> NDArray[np.int64]:
    """(M,) how many wrong images stand before a caption's own; `scores` are (M, N).

    Of equal scores the wrong ones come first: a model that gives everything one score must not seem
    to find all.
    """
    own_scores = scores[np.arange(len(scores)), owners]
    # The image itself is one of those that score at least as high.
    ranks: NDArray[np.int64] = (scores >= own_scores[:, None]).sum(axis=1) - 1
    return ranks
