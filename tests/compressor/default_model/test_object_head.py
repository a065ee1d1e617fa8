"""Peaks of the heat map, and what a box covers."""

from __future__ import annotations

import torch

from compressor.default_model.object_head import OBJECTS, ObjectHead, ObjectMaps, find, inside
from tests.compressor.tiny import vision_config


def maps(peaks: dict[tuple[int, int], float], side: int = 8) -> ObjectMaps:
    """One picture with heat at (row, column); every box is centred in its quarter, half as wide as
    the picture.
    """
    centres = torch.full((1, side, side), -9.0)
    for (row, column), logit in peaks.items():
        centres[0, row, column] = logit
    boxes = torch.full((1, 4, side, side), 0.5)
    colours = torch.arange(side, dtype=torch.float32).expand(1, 2, side, side).clone()
    colours[:, 1] = 0
    return ObjectMaps(centres, boxes, colours)


def test_things_come_from_left_to_right_and_then_what_is_unlikely() -> None:
    found = find(maps({(6, 5): 4.0, (1, 2): 2.0, (3, 0): -1.0}))
    assert found.certainty.shape == (1, OBJECTS)
    torch.testing.assert_close(found.certainty[0, :3], torch.tensor([2.0, 4.0, -1.0]).sigmoid())
    torch.testing.assert_close(found.boxes[0, 0], torch.tensor([2.5 / 8, 1.5 / 8, 0.5, 0.5]))
    torch.testing.assert_close(found.boxes[0, 1, :2], torch.tensor([5.5 / 8, 6.5 / 8]))
    torch.testing.assert_close(found.colours[0, 0], torch.tensor([2.0, 0.0]).softmax(0))


def test_neighbours_of_a_peak_are_no_things() -> None:
    found = find(maps({(4, 4): 3.0, (4, 5): 2.5, (3, 4): 2.0}))
    assert (found.certainty[0] > 0.5).sum() == 1


def test_a_box_covers_shares_of_cells() -> None:
    whole, left, small = inside(
        torch.tensor([[0.5, 0.5, 1.0, 1.0], [0.25, 0.5, 0.5, 1.0], [0.25, 0.25, 0.1, 0.1]]), 2
    ).unbind(0)
    torch.testing.assert_close(whole, torch.full((4,), 0.25))
    torch.testing.assert_close(left, torch.tensor([0.5, 0.0, 0.5, 0.0]))
    torch.testing.assert_close(small, torch.tensor([1.0, 0.0, 0.0, 0.0]))


def test_maps_have_a_place_for_each_quarter() -> None:
    torch.manual_seed(0)
    vision = vision_config()
    side = vision.grid_size
    head = ObjectHead(vision, 11).eval()
    parts = (
        torch.randn(3, size, side, side)
        for size in (vision.feature_size, vision.fine_size, vision.colour_size)
    )
    found = head(*parts)
    assert found.centres.shape == (3, 2 * side, 2 * side)
    assert found.boxes.shape == (3, 4, 2 * side, 2 * side)
    assert found.colours.shape == (3, 11, 2 * side, 2 * side)
    assert found.boxes.min() > 0
    assert found.boxes.max() < 1
