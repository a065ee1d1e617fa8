"""Colour words of pixels, and shades of colour words."""

from __future__ import annotations

import random

import numpy as np
import pytest
from PIL import Image

from compressor.default_model.data import colours

RED, BLACK, WHITE, BLUE = (220, 20, 20), (0, 0, 0), (255, 255, 255), (30, 60, 220)


def pixels(*colours_and_counts: tuple[tuple[int, int, int], int]) -> np.ndarray:
    """(N, 3) pixels, as many of each colour."""
    rows: list[tuple[int, int, int]] = []
    for colour, count in colours_and_counts:
        rows += [colour] * count
    return np.array(rows, np.uint8).reshape(-1, 3)


@pytest.mark.parametrize("colour", colours.COLOURS)
def test_every_shade_is_read_back_as_its_own_colour(colour: str) -> None:
    rng = random.Random(colour)
    for _ in range(200):
        shade = colours.shade(colour, rng)
        counts = colours.colour_counts(pixels((shade, 1)))
        counts.pop(colour)
        assert not any(counts.values()), shade


@pytest.mark.parametrize("colour", colours.COLOURS)
def test_a_plain_object_has_its_colour(colour: str) -> None:
    shades = [colours.shade(colour, random.Random(number)) for number in range(50)]
    assert colours.main_colour(np.array(shades, np.uint8)) == colour


def test_an_outline_does_not_count() -> None:
    outlined = pixels((RED, 70), (BLACK, 30))
    assert colours.main_colour(outlined) == "red"


def test_two_colours_are_no_main_colour() -> None:
    half_and_half = pixels((RED, 50), (BLUE, 50))
    panda = pixels((WHITE, 60), (BLACK, 40))
    assert colours.main_colour(half_and_half) is None
    assert colours.main_colour(panda) is None
    assert colours.main_colour(pixels()) is None


def test_turned_exchanges_hues_and_keeps_greys_and_transparency() -> None:
    image = Image.new("RGBA", (2, 1), (255, 0, 0, 255))
    grey = (120, 120, 120, 7)
    image.putpixel((1, 0), grey)
    result = colours.turned(image, 120)
    turned = result.convert("RGB").getpixel((0, 0))
    assert colours.main_colour(pixels((turned, 1))) == "green"
    assert result.getpixel((1, 0)) == grey
