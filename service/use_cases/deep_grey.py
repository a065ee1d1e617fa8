"""Greys of 16 and 32 bits and of floats, as 8 bits.

A file does not say which of its values means white: 12-bit cameras write 0 to 4095 into 16 bits,
and floats may span 0 to 1, 0 to 255 or anything else. So the values decide.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Range = tuple[float, float]  # the values shown as black and as white

# Bits that cameras and scanners have; the first that holds the brightest values is taken.
WHITES = (255.0, 1023.0, 4095.0, 16383.0, 65535.0)
_USUAL_FLOATS = ((0.0, 1.0), (0.0, 255.0))
_USUAL_INTEGERS = ((0.0, 65535.0),)
_MAX_SAMPLES = 1 << 18
_BAND_ROWS = 256


def eight_bit_grey(image: Image.Image) -> tuple[Image.Image, Range | None]:
    """The image in 8 bits; and its range, unless that is the usual one of its type."""
    values = np.asarray(image)
    black, white = value_range(values)
    grey = np.empty(values.shape, np.uint8)
    # Band by band: in floats the whole image would take up many times its size.
    for start in range(0, len(values), _BAND_ROWS):
        band = values[start : start + _BAND_ROWS].astype(np.float32)
        band = np.nan_to_num(band, nan=black, posinf=white, neginf=black)
        scaled = (band - black) * (255.0 / (white - black))
        grey[start : start + _BAND_ROWS] = np.rint(scaled.clip(0, 255))
    usual = _USUAL_FLOATS if _is_float(values) else _USUAL_INTEGERS
    is_usual = (black, white) in usual
    return Image.fromarray(grey), None if is_usual else (black, white)


def value_range(values: NDArray[np.generic]) -> Range:
    """The values that mean black and white in a grey image."""
    step = math.ceil(math.sqrt(values.size / _MAX_SAMPLES))
    sample = values[::step, ::step].astype(np.float64)
    sample = sample[np.isfinite(sample)]
    if not sample.size:
        return 0.0, 1.0
    # Percentiles: one hot pixel must not turn the rest black. "lower" and "higher" take values that
    # occur, so that in a small image too the one extreme value is left out.
    dark = float(np.percentile(sample, 0.1, method="higher"))
    bright = float(np.percentile(sample, 99.9, method="lower"))
    is_float = _is_float(values)
    if dark >= 0 and not is_float:
        if bright == 0:
            return 0.0, 65535.0
        for white in WHITES:
            if bright <= white:
                return 0.0, white
    if dark >= 0 and is_float:
        # What fills less than an eighth of it has a range of its own: it would be nearly black.
        for _, white in _USUAL_FLOATS:
            if white / 8 <= bright <= white:
                return 0.0, white
    starts_at_zero = 0 <= dark < bright / 2
    black = 0.0 if starts_at_zero else dark
    return (black, bright) if bright > black else (black, black + 1.0)


def _is_float(values: NDArray[np.generic]) -> bool:
    return np.issubdtype(values.dtype, np.floating)
