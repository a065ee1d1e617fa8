"""Labels for the projector's heads."""

from __future__ import annotations

from pathlib import Path

import pytest

from compressor.default_model.data.photos import Photo
from compressor.default_model.training.heads import (
    MIN_MENTIONS,
    box,
    caption_words,
    centre_heatmap,
)
from tests.compressor.default_model.training.scenes import HEIGHT, WIDTH, placed, scene


def test_boxes_are_shares_of_the_picture() -> None:
    expected = (30 / WIDTH, 20 / HEIGHT, 20 / WIDTH, 20 / HEIGHT)
    assert box(placed("apple", (20, 10, 40, 30))) == pytest.approx(expected)


def test_the_heatmap_is_one_at_each_centre_and_falls_off_with_the_size() -> None:
    # 80 × 40 pixels in 8 × 8 places of 10 × 5.
    small, large = placed("apple", (10, 5, 20, 10)), placed("fish", (40, 10, 80, 40))
    heatmap = centre_heatmap(scene(small, large), 8)
    assert (heatmap == 1).nonzero().tolist() == [[1, 1], [5, 6]]
    assert heatmap[1, 2] < heatmap[5, 7] < 1
    assert centre_heatmap(scene(), 8).max() == 0


def test_frequent_words_of_captions_without_the_empty_ones() -> None:
    frequent = Photo(
        Path("a.jpg"),
        None,
        ("A man on the grass", "The man runs"),
    )
    rare = Photo(Path("b.jpg"), None, ("A rare umbrella",))
    photos = [frequent] * MIN_MENTIONS + [rare] * (MIN_MENTIONS - 1)
    assert caption_words(photos) == ("grass", "man", "runs")  # equally frequent
