from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from compressor.training.augmentation import augmented

SIDES = Image.linear_gradient("L").rotate(90).resize((100, 60))  # dark on one side


def is_mirrored(image: Image.Image) -> bool:
    """Whether the gradient runs the other way."""
    before = SIDES.getpixel((0, 30)) < SIDES.getpixel((99, 30))  # type: ignore[operator]
    last = image.width - 1
    after = image.getpixel((0, 20)) < image.getpixel((last, 20))  # type: ignore[operator]
    return bool(before != after)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 1000))
@settings(max_examples=50)
def test_a_crop_keeps_most_of_any_image(width: int, height: int, seed: int) -> None:
    crop = augmented(Image.new("RGB", (width, height)), (), random.Random(seed))
    assert max(1, round(0.8 * width)) <= crop.width <= width
    assert max(1, round(0.8 * height)) <= crop.height <= height


def test_half_of_the_images_are_mirrored() -> None:
    mirrored = [
        is_mirrored(augmented(SIDES, ["a dog"], random.Random(seed)))
        for seed in range(200)
    ]
    assert 70 < sum(mirrored) < 130


@pytest.mark.parametrize("text", ["a cat to the left of it", "The Right one."])
def test_texts_about_sides_keep_the_image_as_it_is(text: str) -> None:
    for seed in range(20):
        assert not is_mirrored(augmented(SIDES, ["a dog", text], random.Random(seed)))


def test_the_draw_alone_decides() -> None:
    first = augmented(SIDES, (), random.Random(3))
    second = augmented(SIDES, (), random.Random(3))
    assert first.tobytes() == second.tobytes()
