"""Random crops and mirror images, so that an image is not the same in every epoch."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable

from PIL import Image, ImageOps

_SMALLEST_SIDE = (
    0.8  # of a crop, as a share of the image's: what texts speak of is mostly left
)
_SIDES = re.compile(r"\b(left|right)\b", re.IGNORECASE)


def augmented(
    image: Image.Image, texts: Iterable[str], draw: random.Random
) -> Image.Image:
    """A crop of the image, mirrored half of the time unless a text speaks of left or right."""
    width = round(image.width * draw.uniform(_SMALLEST_SIDE, 1))
    height = round(image.height * draw.uniform(_SMALLEST_SIDE, 1))
    left = draw.randint(0, image.width - width)
    top = draw.randint(0, image.height - height)
    # At least a pixel of the thinnest image.
    crop = image.crop((left, top, left + max(1, width), top + max(1, height)))
    # Drawn whether it is used or not, so that the texts do not change the samples that follow.
    mirror = draw.random() < 0.5
    if mirror and not any(_SIDES.search(text) for text in texts):
        return ImageOps.mirror(crop)
    return crop
