"""At which cosine two stored images are told to be nearly the same (PRECIS_NEAR_DUPLICATE_SCORE).

Photographs are compressed as they are and changed: written anew as JPEG, reduced, cropped,
mirrored. A threshold should find the changed ones and keep apart different photographs: for each,
the nearest of all others counts, since that is the one an upload would name. Embeddings are
compared as they are stored, in eight bits. A folder may hold photographs that truly are nearly the
same; the pairs of highest cosine are printed, to be looked at.

    python -m bench.near_duplicates FOLDER --photos 200 --changed 40
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from bench.default_model import load
from bench.measure import Figure, report
from compressor.ports import SummaryModel
from index.vectors.arithmetic import round_to_int8, unit
from service.settings import Settings
from service.use_cases.images import decode

THRESHOLDS = (0.8, 0.85, 0.9, 0.92, 0.94, 0.95, 0.96, 0.97, 0.98)
BATCH = 8
PAIRS_SHOWN = 8

Vectors = NDArray[np.float32]  # (N, E)
Change = Callable[[Image.Image], Image.Image]


def run(
    photographs: Sequence[bytes],
    names: Sequence[str],
    model: SummaryModel,
    changed: int,
) -> None:
    """Compresses all photographs, and the first `changed` of them in every change; reports."""
    originals = embeddings(photographs, model)
    figures = different_ones(originals, names)
    for name, (change, quality) in CHANGES.items():
        altered = [
            altered_jpeg(data, change, quality) for data in photographs[:changed]
        ]
        cosines = (embeddings(altered, model) * originals[:changed]).sum(axis=1)
        figures.append(Figure(f"{name}: least cosine", float(cosines.min())))
        for threshold in THRESHOLDS:
            found = float((cosines >= threshold).mean())
            figures.append(Figure(f"{name}: found at {threshold}", found))
    report("near_duplicates", figures)


def different_ones(originals: Vectors, names: Sequence[str]) -> list[Figure]:
    """For each photograph the cosine with the nearest other one."""
    cosines = originals @ originals.T
    np.fill_diagonal(cosines, -1)
    nearest = cosines.max(axis=1)
    for row in np.argsort(-nearest)[:PAIRS_SHOWN]:
        other = names[int(cosines[row].argmax())]
        print(f"{nearest[row]:.3f}  {names[row]}  {other}")
    figures = []
    for percent in (50, 90, 99, 100):
        value = float(np.percentile(nearest, percent))
        figures.append(Figure(f"nearest other: percentile {percent}", max(value, 0.0)))
    for threshold in THRESHOLDS:
        share = float((nearest >= threshold).mean())
        figures.append(Figure(f"nearest other: share at {threshold}", share))
    return figures


def embeddings(photographs: Sequence[bytes], model: SummaryModel) -> Vectors:
    """(N, E) as a library stores them."""
    settings = Settings()
    made = []
    for start in range(0, len(photographs), BATCH):
        images = []
        for data in photographs[start : start + BATCH]:
            decoded = decode(
                data,
                max_pixels=settings.max_image_pixels,
                max_side_px=settings.image_side_px,
            )
            images.append(decoded.image)
        made.append(model.compress(images).embeddings)
    return unit(round_to_int8(np.concatenate(made)))


def altered_jpeg(data: bytes, change: Change, quality: int) -> bytes:
    """A changed photograph, written anew."""
    with Image.open(io.BytesIO(data)) as image:
        changed = change(ImageOps.exif_transpose(image).convert("RGB"))
    buffer = io.BytesIO()
    changed.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def _scaled(factor: float) -> Change:
    def change(image: Image.Image) -> Image.Image:
        size = (round(image.width * factor), round(image.height * factor))
        return image.resize(size, Image.Resampling.LANCZOS)

    return change


def _cropped(share: float) -> Change:
    """A share of both sides, from the middle."""

    def change(image: Image.Image) -> Image.Image:
        left = round(image.width * (1 - share) / 2)
        top = round(image.height * (1 - share) / 2)
        return image.crop((left, top, image.width - left, image.height - top))

    return change


CHANGES: dict[str, tuple[Change, int]] = {
    "JPEG of quality 50": (_scaled(1.0), 50),
    "half as large": (_scaled(0.5), 85),
    "95 % of both sides": (_cropped(0.95), 90),
    "80 % of both sides": (_cropped(0.8), 90),
    "mirrored": (ImageOps.mirror, 90),
}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photos", type=int, default=200)
    parser.add_argument("--changed", type=int, default=40)
    options = parser.parse_args()
    paths = sorted(options.folder.glob("*.jpg"))[: options.photos]
    photographs = [path.read_bytes() for path in paths]
    names = [path.name for path in paths]
    run(photographs, names, load().summary_model, options.changed)


if __name__ == "__main__":
    main()
