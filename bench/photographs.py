"""Photographs for the benchmarks: those of scikit-image, in any number of different crops."""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data as scikit_image

NAMES = (
    "astronaut",
    "chelsea",
    "coffee",
    "rocket",
    "retina",
    "hubble_deep_field",
    "motorcycle_left",
    "camera",
)


def jpegs(count: int, seed: int = 0) -> Iterator[bytes]:
    """`count` different JPEGs: crops of 60 to 100 % of both sides, the same for the same seed."""
    random = np.random.default_rng(seed)
    for number in range(count):
        photograph = _photograph(NAMES[number % len(NAMES)])
        width, height = (int(side * random.uniform(0.6, 1)) for side in photograph.size)
        left = int(random.integers(photograph.width - width + 1))
        top = int(random.integers(photograph.height - height + 1))
        crop = photograph.crop((left, top, left + width, top + height))
        # Two crops could be the same by chance; a pixel that counts tells them apart.
        crop.putpixel((0, 0), (seed % 256, number // 256 % 256, number % 256))
        buffer = io.BytesIO()
        crop.save(buffer, "JPEG", quality=90)
        yield buffer.getvalue()


def write_jpegs(folder: Path, count: int, seed: int = 0) -> list[Path]:
    """`jpegs` as files in a new folder."""
    folder.mkdir(parents=True)
    paths = []
    for number, content in enumerate(jpegs(count, seed)):
        paths.append(folder / f"{number:04}.jpg")
        paths[-1].write_bytes(content)
    return paths


@cache
def _photograph(name: str) -> Image.Image:
    (path,) = Path(scikit_image.__file__).parent.glob(f"{name}.*g")
    with Image.open(path) as image:
        return image.convert("RGB")
