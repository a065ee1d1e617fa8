"""Peaks of the heatmap, and the cells that a box covers."""

from __future__ import annotations

import torch

from compressor.default_model.object_head import (
    MAX_OBJECTS,
    ObjectHead,
    ObjectMaps,
    box_coverage,
    decode_detections,
)
from tests.compressor.tiny import vision_config


def maps(peaks: dict[tuple[int, int], float], side: int = 8) -> ObjectMaps:
    """One picture with a logit at each (row, column).

    Every box is centred in its quarter and half as wide as the picture. Colours say the column.
    """
    centres = torch.full((1, side, side), -9.0)
    for (row, column), logit in peaks.items():
        centres[0, row, column] = logit
    boxes = torch.full((1, 4, side, side), 0.5)
    colours = torch.zeros(1, 2, side, side)
    colours[:, 0] = torch.arange(side)
    return ObjectMaps(centres, boxes, colours)


def test_certain_detections_come_from_left_to_right_and_uncertain_ones_last() -> None:
    detections = decode_detections(
        maps(
            {
                (6, 5): 4.0,
                (1, 2): 2.0,
                (3, 0): -1.0,
            }
        )
    )
    assert detections.score.shape == (1, MAX_OBJECTS)
    scores = torch.tensor([2.0, 4.0, -1.0]).sigmoid()
    torch.testing.assert_close(detections.score[0, :3], scores)
    first_box = torch.tensor([2.5 / 8, 1.5 / 8, 0.5, 0.5])
    torch.testing.assert_close(detections.boxes[0, 0], first_box)
    second_centre = torch.tensor([5.5 / 8, 6.5 / 8])
    torch.testing.assert_close(detections.boxes[0, 1, :2], second_centre)
    first_colours = torch.tensor([2.0, 0.0]).softmax(0)
    torch.testing.assert_close(detections.colours[0, 0], first_colours)


def test_neighbours_of_a_peak_are_no_detections() -> None:
    detections = decode_detections(
        maps(
            {
                (4, 4): 3.0,
                (4, 5): 2.5,
                (3, 4): 2.0,
            }
        )
    )
    assert (detections.score[0] > 0.5).sum() == 1


def test_a_box_covers_shares_of_cells() -> None:
    boxes = [
        [0.5, 0.5, 1.0, 1.0],
        [0.25, 0.5, 0.5, 1.0],
        [0.25, 0.25, 0.1, 0.1],
    ]
    whole, left_half, corner = box_coverage(torch.tensor(boxes), 2)
    torch.testing.assert_close(whole, torch.full((4,), 0.25))
    torch.testing.assert_close(left_half, torch.tensor([0.5, 0.0, 0.5, 0.0]))
    torch.testing.assert_close(corner, torch.tensor([1.0, 0.0, 0.0, 0.0]))


def test_maps_have_a_place_for_each_quarter() -> None:
    torch.manual_seed(0)
    vision = vision_config()
    side = vision.grid_size
    head = ObjectHead(vision, 11)
    head.train(False)
    sizes = (vision.feature_size, vision.fine_size, vision.colour_size)
    output = head(*(torch.randn(3, size, side, side) for size in sizes))
    assert output.centres.shape == (3, 2 * side, 2 * side)
    assert output.boxes.shape == (3, 4, 2 * side, 2 * side)
    assert output.colours.shape == (3, 11, 2 * side, 2 * side)
    assert output.boxes.min() > 0
    assert output.boxes.max() < 1
