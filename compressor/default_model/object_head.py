"""Where things are in a picture: a small convolutional head over the fine grid of the vision tower.

Centres of things are peaks of a heat map, each with a box and a colour (Zhou et al. 2019, arXiv
1904.07850). Knows nothing of names or words. Shapes: B batch, O things found, G cells along a side,
g = 2·G quarters along a side.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compressor.default_model.vision_tower import EfficientNetLiteConfig

OBJECTS = 4  # the most that are looked for


@dataclass(frozen=True)
class ObjectMaps:
    """What the head says of every quarter of a cell."""

    centres: Tensor  # (B, g, g) logits of "the centre of a thing is here"
    # (B, 4, g, g) x and y of the centre within the quarter, width and height as shares of the
    # picture
    boxes: Tensor
    colours: Tensor  # (B, W, g, g) logits over colour words of the thing whose centre is here


@dataclass(frozen=True)
class Found:
    """The likeliest things of each picture, those that are there from left to right, then the rest."""

    certainty: Tensor  # (B, O) in 0..1
    boxes: Tensor  # (B, O, 4) centre x, centre y, width, height as shares of the picture
    colours: Tensor  # (B, O, W) probabilities


class ObjectHead(nn.Module):
    """Coarse features say what kind of thing there may be, fine features and colours where exactly."""

    def __init__(self, vision: EfficientNetLiteConfig, colours: int, width: int = 64) -> None:
        super().__init__()
        fine = vision.fine_size // 4
        self.norm = nn.BatchNorm2d(fine)
        self.coarse = nn.Conv2d(vision.feature_size, width, 1)
        self.enter = nn.Conv2d(fine + width + vision.colour_size // 4, width, 1)
        self.layers = nn.ModuleList(
            nn.Conv2d(width, width, 3, padding=d, dilation=d) for d in (1, 2, 4, 1)
        )
        self.decide = nn.Conv2d(width, 1 + 4 + colours, 1)

    def forward(self, features: Tensor, quarters: Tensor, colours: Tensor) -> ObjectMaps:
        """(B, C, G, G) features, fine features of quarters and colours of quarters → maps."""
        fine = [
            self.norm(nn.functional.pixel_shuffle(quarters, 2)),
            nn.functional.pixel_shuffle(colours, 2),
        ]
        coarse = nn.functional.interpolate(self.coarse(features), scale_factor=2.0, mode="bilinear")
        x = nn.functional.gelu(self.enter(torch.cat([*fine, coarse], dim=1)))
        for layer in self.layers:
            x = x + nn.functional.gelu(layer(x))
        centres, boxes, colour = self.decide(x).split([1, 4, self.decide.out_channels - 5], dim=1)
        return ObjectMaps(centres[:, 0], boxes.sigmoid(), colour)


def find(maps: ObjectMaps, certain: float = 0.5) -> Found:
    """Peaks of the heat map, at most OBJECTS a picture."""
    heat = maps.centres.sigmoid()
    side = heat.shape[-1]
    peaks = heat * (nn.functional.max_pool2d(heat.unsqueeze(1), 3, 1, 1)[:, 0] == heat)
    top = peaks.flatten(1).topk(OBJECTS)
    place = top.indices.unsqueeze(1)  # (B, 1, O)
    boxes = maps.boxes.flatten(2).gather(2, place.expand(-1, 4, -1)).transpose(1, 2)
    colours = (
        maps.colours.flatten(2)
        .gather(2, place.expand(-1, maps.colours.shape[1], -1))
        .transpose(1, 2)
    )
    corner = torch.stack([top.indices % side, top.indices // side], dim=-1)
    boxes = torch.cat([(corner + boxes[..., :2]) / side, boxes[..., 2:]], dim=-1)
    order = torch.where(top.values >= certain, boxes[..., 0], 2 - top.values).argsort(dim=1)

    def ordered(values: Tensor) -> Tensor:
        return values.gather(1, order.unsqueeze(-1).expand(-1, -1, values.shape[-1]))

    certainty = top.values.gather(1, order)
    return Found(certainty, ordered(boxes), ordered(colours).softmax(-1))


def inside(boxes: Tensor, side: int) -> Tensor:
    """(…, 4) boxes as in `Found` → (…, side²) share of each box's area in each cell of a grid, in
    row order.
    """
    edges = torch.arange(side, device=boxes.device, dtype=boxes.dtype)

    def covered(centre: Tensor, size: Tensor) -> Tensor:
        low, high = (
            ((centre - size / 2) * side).unsqueeze(-1),
            ((centre + size / 2) * side).unsqueeze(-1),
        )
        return (torch.minimum(edges + 1, high) - torch.maximum(edges, low)).clamp(0, 1)

    across, down = covered(boxes[..., 0], boxes[..., 2]), covered(boxes[..., 1], boxes[..., 3])
    cover = (down.unsqueeze(-1) * across.unsqueeze(-2)).flatten(-2)
    return cover / cover.sum(-1, keepdim=True).clamp(min=1e-6)
