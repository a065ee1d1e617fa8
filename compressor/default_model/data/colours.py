"""The eleven basic colours of English: their shades, the word for pixels, hues exchanged.

The eleven: Berlin and Kay, "Basic Color Terms", 1969.
"""

from __future__ import annotations

import colorsys
import random
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

COLOURS = (
    "black",
    "white",
    "grey",
    "red",
    "orange",
    "yellow",
    "green",
    "blue",
    "purple",
    "pink",
    "brown",
)


class _Shades(NamedTuple):
    """A box of shades well inside what people call by a word."""

    hue: tuple[float, float]  # degrees; may start below 0
    saturation: tuple[float, float]  # 0..1
    value: tuple[float, float]  # 0..1


_SHADES = {
    "black": _Shades(
        hue=(0, 360),
        saturation=(0.0, 0.3),
        value=(0.0, 0.11),
    ),
    "white": _Shades(
        hue=(0, 360),
        saturation=(0.0, 0.025),
        value=(0.96, 1.0),
    ),
    "grey": _Shades(
        hue=(0, 360),
        saturation=(0.0, 0.05),
        value=(0.38, 0.72),
    ),
    "red": _Shades(
        hue=(-7, 7),
        saturation=(0.80, 1.0),
        value=(0.62, 0.95),
    ),
    "orange": _Shades(
        hue=(22, 34),
        saturation=(0.85, 1.0),
        value=(0.9, 1.0),
    ),
    "yellow": _Shades(
        hue=(50, 60),
        saturation=(0.65, 1.0),
        value=(0.9, 1.0),
    ),
    "green": _Shades(
        hue=(95, 145),
        saturation=(0.5, 1.0),
        value=(0.35, 0.85),
    ),
    "blue": _Shades(
        hue=(205, 230),
        saturation=(0.55, 1.0),
        value=(0.55, 1.0),
    ),
    "purple": _Shades(
        hue=(268, 292),
        saturation=(0.5, 0.95),
        value=(0.4, 0.75),
    ),
    "pink": _Shades(
        hue=(325, 346),
        saturation=(0.28, 0.55),
        value=(0.95, 1.0),
    ),
    "brown": _Shades(
        hue=(18, 30),
        saturation=(0.6, 0.85),
        value=(0.28, 0.5),
    ),
}
# Colour words by hue in degrees; in the gaps between them people disagree on the word.
_HUES = {
    # Beyond 360, which float32 may round a hue up to, since upper limits are exclusive.
    "red": ((0, 13), (348, 360.01)),
    "orange": ((18, 39),),
    "yellow": ((45, 66),),
    "green": ((70, 165),),
    "blue": ((178, 250),),
    "purple": ((258, 302),),
    "pink": ((308, 343),),
}


def shade(colour: str, rng: random.Random) -> tuple[int, int, int]:
    """A random RGB shade (0..255) that people call by this word."""
    hue, saturation, value = (rng.uniform(*limits) for limits in _SHADES[colour])
    red, green, blue = colorsys.hsv_to_rgb(hue % 360 / 360, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def colour_counts(pixels: NDArray[np.uint8]) -> dict[str, int]:
    """The number of RGB pixels (N, 3) of each colour.

    A pixel between two words counts for the nearer one, or for none where people disagree.
    """
    hue, saturation, value = hsv(pixels)
    word = np.full(hue.shape, "", dtype="<U6")  # "" stays where people disagree
    chromatic = (saturation >= 0.22) & (value >= 0.16)
    # Later rules overwrite earlier ones: greys first, hues next, then what lightness changes.
    _name_greys(word, chromatic, value)
    for colour, ranges in _HUES.items():
        for low, high in ranges:
            word[chromatic & (hue >= low) & (hue < high)] = colour
    _mend_by_lightness(word, chromatic, hue, saturation, value)
    return {colour: int((word == colour).sum()) for colour in COLOURS}


def _name_greys(
    word: NDArray[np.str_],
    chromatic: NDArray[np.bool_],
    value: NDArray[np.float32],
) -> None:
    grey = ~chromatic
    word[grey & (value < 0.24)] = "black"
    word[grey & (value >= 0.28)] = "grey"
    word[grey & (value >= 0.86)] = "white"


def _mend_by_lightness(
    word: NDArray[np.str_],
    chromatic: NDArray[np.bool_],
    hue: NDArray[np.float32],
    saturation: NDArray[np.float32],
    value: NDArray[np.float32],
) -> None:
    """Four words depend on more than hue: pink is pale red, brown is dark orange."""
    pale = chromatic & (saturation < 0.55)
    word[(word == "orange") & (pale | (value < 0.85))] = ""
    word[(word == "yellow") & ((saturation < 0.35) | (value < 0.75))] = ""
    word[pale & (word == "red")] = ""
    reddish = (hue < 18) | (hue >= 343)
    word[pale & reddish & (value >= 0.8)] = "pink"
    word[chromatic & (word == "pink") & (value < 0.6)] = "purple"
    warm = (hue >= 8) & (hue < 45)
    dark = (value >= 0.16) & (value < 0.66)
    word[warm & dark & (saturation >= 0.3)] = "brown"


def main_colour(pixels: NDArray[np.uint8]) -> str | None:
    """The colour that RGB pixels (N, 3) clearly have, outlines left aside; None without one."""
    counts = colour_counts(pixels)
    word, most = max(counts.items(), key=lambda item: item[1])
    # What is black and white all over has no outline but two colours.
    outline = 0
    if word not in ("black", "white"):
        # More than a third of black is no outline, but a colour of the object.
        outline = min(counts["black"], len(pixels) // 3)
    # Dim photographs and outlined drawings are full of grey and black, so both need a larger share.
    share = {"black": 0.85, "grey": 0.8}.get(word, 0.65)
    return word if most and most >= share * (len(pixels) - outline) else None


def turned(image: Image.Image, degrees: float) -> Image.Image:
    """An RGBA image with every hue turned around the colour circle; greys, black and white stay."""
    hue, saturation, value = image.convert("RGB").convert("HSV").split()
    step = round(degrees / 360 * 256)
    hue = hue.point([(level + step) % 256 for level in range(256)])
    result = Image.merge("HSV", (hue, saturation, value)).convert("RGB")
    # Transparency is not part of the colour: HSV has no place for it, so it is put back.
    result.putalpha(image.getchannel("A"))
    return result


def hsv(
    pixels: NDArray[np.uint8],
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Hue in degrees, saturation and value in 0..1, each (N,), of RGB pixels (N, 3)."""
    rgb = pixels.astype(np.float32) / 255
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    value = rgb.max(axis=-1)
    span = value - rgb.min(axis=-1)
    # A grey pixel has no hue and a black one no saturation; 1 in place of 0 avoids the division.
    safe_span = np.where(span == 0, 1, span)
    safe_value = np.where(value == 0, 1, value)
    from_red = (green - blue) / safe_span
    from_green = 2 + (blue - red) / safe_span
    from_blue = 4 + (red - green) / safe_span
    sector = np.where(
        value == red,
        from_red,
        np.where(value == green, from_green, from_blue),
    )
    hue = (sector * 60) % 360 * (span > 0)
    return hue, span / safe_value, value
