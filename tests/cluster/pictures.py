"""Pictures for the tests of a cluster."""

from __future__ import annotations

import numpy as np
from PIL import Image

from tests.fakes.text_reader import png


def noise(seed: int) -> bytes:
    """A picture like no other."""
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    return png(Image.fromarray(pixels))
