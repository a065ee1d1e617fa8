"""The eleven basic colours of English: shades to paint with, the colour word of pixels, colours
exchanged.

Knows nothing of objects or scenes. The eleven: Berlin and Kay, "Basic Color Terms", 1969.
"""

from __future__ import annotations

import colorsys
import random

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

# Hue in degrees (may start below 0), saturation and value in 0..1: a box well inside what people
# call by the word.
_SHADES: dict[str, tuple[tuple[float, float], tuple[float, float], tuple[float, float]]] = {
    "black": ((0, 360), (0.0, 0.3), (0.0, 0.11)),
    "white": ((0, 360), (0.0, 0.025), (0.96, 1.0)),
    "grey": ((0, 360), (0.0, 0.05), (0.38, 0.72)),
    "red": ((-7, 7), (0.80, 1.0), (0.62, 0.95)),
    "orange": ((22, 34), (0.85, 1.0), (0.9, 1.0)),
    "yellow": ((50, 60), (0.65, 1.0), (0.9, 1.0)),
    "green": ((95, 145), (0.5, 1.0), (0.35, 0.85)),
    "blue": ((205, 230), (0.55, 1.0), (0.55, 1.0)),
    "purple": ((268, 292), (0.5, 0.95), (0.4, 0.75)),
    "pink": ((325, 346), (0.28, 0.55), (0.95, 1.0)),
    "brown": ((18, 30), (0.6, 0.85), (0.28, 0.5)),
}


def shade(colour: str, rng: random.Random) -> tuple[int, int, int]:
    """A random RGB shade (0..255) that people call by this word."""
    hue, saturation, value = (rng.uniform(*limits) for limits in _SHADES[colour])
    red, green, blue = colorsys.hsv_to_rgb(hue % 360 / 360, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def colour_counts(pixels: NDArray[np.uint8]) -> dict[str, int]:
    """How many of the RGB pixels (N, 3) have each colour; pixels between two words are counted for
    the nearer one.
    """
    hue, saturation, value = hsv(pixels)
    found = np.full(hue.shape, "", dtype="<U6")  # "" stays where people would not agree on a word
    chromatic = (saturation >= 0.22) & (value >= 0.16)
    found[~chromatic & (value < 0.24)] = "black"
    found[~chromatic & (value >= 0.28)] = "grey"
    found[~chromatic & (value >= 0.86)] = "white"
    for colour, low, high in (
        ("red", 0, 13), ("orange", 18, 39), ("yellow", 45, 66), ("green", 70, 165), ("blue", 178, 250),
        ("purple", 258, 302), ("pink", 308, 343), ("red", 348, 360.01),
    ):  # fmt: skip
        found[chromatic & (hue >= low) & (hue < high)] = colour
    pale = chromatic & (saturation < 0.55)
    found[(found == "orange") & (pale | (value < 0.85))] = ""
    found[(found == "yellow") & ((saturation < 0.35) | (value < 0.75))] = ""
    found[pale & (found == "red")] = ""
    found[pale & ((hue < 18) | (hue >= 343)) & (value >= 0.8)] = "pink"
    found[chromatic & (found == "pink") & (value < 0.6)] = "purple"
    found[(saturation >= 0.3) & (value >= 0.16) & (hue >= 8) & (hue < 45) & (value < 0.66)] = (
        "brown"
    )
    return {colour: int((found == colour).sum()) for colour in COLOURS}


def main_colour(pixels: NDArray[np.uint8]) -> str | None:
    """The colour that RGB pixels (N, 3) clearly have, dark outlines left aside; None if there is none.

    Grey and black need a larger share: dim photographs and outlined drawings are full of both.
    """
    counts = colour_counts(pixels)
    word, most = max(counts.items(), key=lambda item: item[1])
    # What is black and white all over has no outline but two colours.
    outline = 0 if word in ("black", "white") else min(counts["black"], len(pixels) // 3)
    share = {"black": 0.85, "grey": 0.8}.get(word, 0.65)
    return word if most and most >= share * (len(pixels) - outline) else None


def turned(image: Image.Image, degrees: float) -> Image.Image:
    """An RGBA image with every hue turned around the colour circle; greys, black and white stay."""
    hue, saturation, value = image.convert("RGB").convert("HSV").split()
    step = round(degrees / 360 * 256)
    hue = hue.point([(level + step) % 256 for level in range(256)])
    result = Image.merge("HSV", (hue, saturation, value)).convert("RGB")
    result.putalpha(image.getchannel("A"))
    return result


def hsv(
    pixels: NDArray[np.uint8],
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Hue in degrees, saturation and value in 0..1, each (N,), of RGB pixels (N, 3)."""
    rgb = pixels.astype(np.float32) / 255
    value = rgb.max(axis=-1)
    span = value - rgb.min(axis=-1)
    safe = np.where(span == 0, 1, span)
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    hue = np.where(
        value == red,
        (green - blue) / safe,
        np.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    return (hue * 60) % 360 * (span > 0), span / np.where(value == 0, 1, value), value
