"""TODO."""

from __future__ import annotations

import random

import numpy as np
import pytest
from PIL import Image

from compressor.default_model.data import colours


@pytest.mark.parametrize("colour", colours.COLOURS)
def test_every_shade_is_read_back_as_its_own_colour(colour: str) -> None:
    rng = random.Random(colour)
    for _ in range(200):
        pixels = np.array([colours.shade(colour, rng)], np.uint8)
        counts = colours.colour_counts(pixels)
        assert not [other for other, count in counts.items() if count and other != colour], pixels


@pytest.mark.parametrize("colour", colours.COLOURS)
def test_a_plain_thing_has_its_colour(colour: str) -> None:
    typical = np.array([colours.shade(colour, random.Random(n)) for n in range(50)], np.uint8)
    assert colours.main_colour(typical) == colour


def test_an_outline_does_not_count_but_a_second_colour_does() -> None:
    red, black, white, blue = ([[220, 20, 20]], [[0, 0, 0]], [[255, 255, 255]], [[30, 60, 220]])

    def mix(*parts: tuple[list[list[int]], int]) -> np.ndarray:
        return np.concatenate(
            [np.repeat(np.array(colour, np.uint8), count, axis=0) for colour, count in parts]
        )

    assert colours.main_colour(mix((red, 70), (black, 30))) == "red"
    assert colours.main_colour(mix((red, 50), (blue, 50))) is None
    assert colours.main_colour(mix((white, 60), (black, 40))) is None  # a panda is not white
    assert colours.main_colour(mix((red, 0), (blue, 0))) is None


def test_turned_exchanges_hues_and_keeps_greys_and_transparency() -> None:
    image = Image.new("RGBA", (2, 1), (255, 0, 0, 255))
    image.putpixel((1, 0), (120, 120, 120, 7))
    result = colours.turned(image, 120)
    assert colours.main_colour(np.array([result.getpixel((0, 0))[:3]], np.uint8)) == "green"
    assert result.getpixel((1, 0)) == (120, 120, 120, 7)
