"""Where the objects of a picture are: a small convolutional head over the tower's fine grid.

Centres of objects are peaks of a heatmap, each with a box and a colour (CenterNet, Zhou et al.
2019, arXiv 1904.07850). Shapes: B batch, O detections, W colour words, G cells along a side of the
tower's grid, g = 2·G quarters of cells along a side.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compressor.default_model.vision_tower import EfficientNetLiteConfig

MAX_OBJECTS = 4  # detections of a picture
_LAYER_DILATIONS = (1, 2, 4, 1)


@dataclass(frozen=True)
class ObjectMaps:
    """The head's output for every quarter of a cell."""

    centres: Tensor  # (B, g, g) logits of "an object's centre lies here"
    # (B, 4, g, g): x and y of the centre within the quarter; width and height as shares of the
    # picture.
    boxes: Tensor
    colours: Tensor  # (B, W, g, g) logits over colour words of the object centred here


@dataclass(frozen=True)
class Detections:
    """The likeliest objects of each picture: the certain ones from left to right, then the rest."""

    score: Tensor  # (B, O) in 0..1
    boxes: (
        Tensor  # (B, O, 4) centre x, centre y, width, height as shares of the picture
    )
    colours: Tensor  # (B, O, W) probabilities


class ObjectHead(nn.Module):
    """Coarse features say what kind of object there may be, fine ones and colours where it is."""

    def __init__(
        self,
        vision: EfficientNetLiteConfig,
        colours: int,
        width: int = 64,
    ) -> None:
        super().__init__()
        fine = vision.fine_size // 4
        self.norm = nn.BatchNorm2d(fine)
        self.coarse = nn.Conv2d(vision.feature_size, width, 1)
        self.enter = nn.Conv2d(fine + width + vision.colour_size // 4, width, 1)
        # Growing dilations see a whole object after four layers, at the resolution of the grid.
        self.layers = nn.ModuleList(
            nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation)
            for dilation in _LAYER_DILATIONS
        )
        self.decide = nn.Conv2d(width, 1 + 4 + colours, 1)

    def forward(
        self,
        features: Tensor,
        fine_features: Tensor,
        colours: Tensor,
    ) -> ObjectMaps:
        """(B, C, G, G) features, fine features and colours of a cell's four quarters → maps."""
        fine = self.norm(nn.functional.pixel_shuffle(fine_features, 2))
        shades = nn.functional.pixel_shuffle(colours, 2)
        coarse = nn.functional.interpolate(
            self.coarse(features),
            scale_factor=2.0,
            mode="bilinear",
        )
        x = nn.functional.gelu(self.enter(torch.cat([fine, shades, coarse], dim=1)))
        for layer in self.layers:
            x = x + nn.functional.gelu(layer(x))
        maps = self.decide(x)
        colour_words = self.decide.out_channels - 5
        centres, boxes, colour_logits = maps.split([1, 4, colour_words], dim=1)
        return ObjectMaps(centres[:, 0], boxes.sigmoid(), colour_logits)


def decode_detections(maps: ObjectMaps, threshold: float = 0.5) -> Detections:
    """Peaks of the heatmap, MAX_OBJECTS of each picture.

    Detections with a score below `threshold` follow those above it, in falling order.
    """
    heatmap = maps.centres.sigmoid()
    side = heatmap.shape[-1]
    # A peak equals the maximum of its 3 × 3 neighbourhood: CenterNet's suppression of duplicates,
    # which compares no boxes.
    neighbourhood_max = nn.functional.max_pool2d(heatmap.unsqueeze(1), 3, 1, 1)
    is_peak = neighbourhood_max[:, 0] == heatmap
    peaks = heatmap * is_peak
    score, place = peaks.flatten(1).topk(MAX_OBJECTS)

    boxes = _values_at(maps.boxes, place)
    corner = torch.stack([place % side, place // side], dim=-1)
    centre = (corner + boxes[..., :2]) / side
    boxes = torch.cat([centre, boxes[..., 2:]], dim=-1)
    colours = _values_at(maps.colours, place)

    # Reading order is part of what summary tokens say: "left" and "right" need no words of their
    # own. An uncertain detection must not push a certain one to another position, so it goes last:
    # 2 − score exceeds every x.
    left_to_right = torch.where(score >= threshold, boxes[..., 0], 2 - score)
    order = left_to_right.argsort(dim=1)
    return Detections(
        score.gather(1, order),
        _reordered(boxes, order),
        _reordered(colours, order).softmax(-1),
    )


def box_coverage(boxes: Tensor, side: int) -> Tensor:
    """(…, 4) boxes as in Detections → (…, side²) share of each box's area in each cell of a grid.

    Cells are in row order; the shares of a box sum to 1.
    """
    edges = torch.arange(side, device=boxes.device, dtype=boxes.dtype)
    x, y, width, height = boxes.unbind(-1)
    across = _interval_coverage(x, width, edges)
    down = _interval_coverage(y, height, edges)
    coverage = (down.unsqueeze(-1) * across.unsqueeze(-2)).flatten(-2)
    return coverage / coverage.sum(-1, keepdim=True).clamp(min=1e-6)


def _interval_coverage(
    centre: Tensor,
    size: Tensor,
    edges: Tensor,
) -> Tensor:
    """(…) centres and sizes as shares → (…, side) how much of each cell the interval covers."""
    side = len(edges)
    low = ((centre - size / 2) * side).unsqueeze(-1)
    high = ((centre + size / 2) * side).unsqueeze(-1)
    return (torch.minimum(edges + 1, high) - torch.maximum(edges, low)).clamp(0, 1)


def _values_at(maps: Tensor, place: Tensor) -> Tensor:
    """(B, C, g, g) maps at (B, O) flat places → (B, O, C)."""
    channels = maps.shape[1]
    index = place.unsqueeze(1).expand(-1, channels, -1)
    return maps.flatten(2).gather(2, index).transpose(1, 2)


def _reordered(values: Tensor, order: Tensor) -> Tensor:
    """(B, O, C) rows in the (B, O) order."""
    index = order.unsqueeze(-1).expand(-1, -1, values.shape[-1])
    return values.gather(1, index)
