"""The eleven basic colours of English: shades to paint with, and the colour word of pixels.

Knows nothing of objects or scenes. The eleven: Berlin and Kay, "Basic Color Terms", 1969.
"""

from __future__ import annotations

import colorsys
import random

import numpy as np
from numpy.typing import NDArray

COLOURS = ("black", "white", "grey", "red", "orange", "yellow", "green", "blue", "purple", "pink", "brown")

# Hue in degrees (may start below 0), saturation and value in 0..1: a box well inside what people call by the word.
_SHADES: dict[str, tuple[tuple[float, float], tuple[float, float], tuple[float, float]]] = {
    "black": ((0, 360), (0.0, 0.3), (0.0, 0.11)),
    "white": ((0, 360), (0.0, 0.025), (0.96, 1.0)),
    "grey": ((0, 360), (0.0, 0.05), (0.38, 0.72)),
    "red": ((-7, 7), (0.80, 1.0), (0.62, 0.95)),
    "orange": ((22, 34), (0.85, 1.0), (0.9, 1.0)),
    "yellow": ((50, 60), (0.65, 1.0), (0.9, 1.0)),
    "green": ((95, 145), (0.5, 1.0), (0.35, 0.85)),
    "blue": ((205, 235), (0.55, 1.0), (0.55, 1.0)),
    "purple": ((268, 292), (0.5, 0.95), (0.4, 0.75)),
    "pink": ((325, 350), (0.28, 0.55), (0.95, 1.0)),
    "brown": ((18, 30), (0.6, 0.85), (0.28, 0.5)),
}


def shade(colour: str, rng: random.Random) -> tuple[int, int, int]:
    """A random RGB shade (0..255) that people call by this word."""
    hue, saturation, value = (rng.uniform(*limits) for limits in _SHADES[colour])
    red, green, blue = colorsys.hsv_to_rgb(hue % 360 / 360, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def colour_counts(pixels: NDArray[np.uint8]) -> dict[str, int]:
    """How many of the RGB pixels (N, 3) have each colour; pixels between two words are counted for the nearer one."""
    hue, saturation, value = hsv(pixels)
    found = np.full(hue.shape, "", dtype="<U6")
    chromatic = (saturation >= 0.22) & (value >= 0.16)
    found[~chromatic & (value < 0.22)] = "black"
    found[~chromatic & (value >= 0.22)] = "grey"
    found[~chromatic & (value >= 0.86)] = "white"
    for colour, low, high in (
        ("red", 0, 13), ("orange", 13, 42), ("yellow", 42, 66), ("green", 66, 168), ("blue", 168, 255),
        ("purple", 255, 302), ("pink", 302, 345), ("red", 345, 360.01),
    ):  # fmt: skip
        found[chromatic & (hue >= low) & (hue < high)] = colour
    warm = np.isin(found, ("red", "orange", "yellow")) & chromatic
    found[warm & (hue >= 8) & (hue < 50) & (value < 0.66)] = "brown"
    found[warm & (hue >= 8) & (hue < 50) & (saturation < 0.55) & (value < 0.82)] = "brown"
    found[warm & ((hue < 20) | (hue >= 345)) & (saturation < 0.55) & (value >= 0.75)] = "pink"
    found[chromatic & (found == "pink") & (value < 0.55)] = "purple"
    return {colour: int((found == colour).sum()) for colour in COLOURS}


def main_colour(pixels: NDArray[np.uint8], share: float = 0.65) -> str | None:
    """The colour of at least this share of the RGB pixels (N, 3), dark outlines left aside; None if there is none."""
    counts = colour_counts(pixels)
    total = sum(counts.values())
    if not total:
        return None
    word, most = max(counts.items(), key=lambda item: item[1])
    if word == "black":
        return word if most >= share * total else None
    outline = min(counts["black"], total // 4)
    return word if most >= share * (total - outline) else None


def hsv(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Hue in degrees, saturation and value in 0..1, each (N,), of RGB pixels (N, 3)."""
    rgb = pixels.astype(np.float32) / 255
    value = rgb.max(axis=-1)
    span = value - rgb.min(axis=-1)
    safe = np.where(span == 0, 1, span)
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    hue = np.where(
        value == red, (green - blue) / safe, np.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe)
    )
    return (hue * 60) % 360 * (span > 0), span / np.where(value == 0, 1, value), value
