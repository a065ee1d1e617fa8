"""Scenes by the boxes of their objects."""

from __future__ import annotations

from PIL import Image

from compressor.default_model.data.scenes import Placed, Scene

WIDTH, HEIGHT = 80, 40


def placed(name: str, box: tuple[int, int, int, int]) -> Placed:
    left, top, right, bottom = box
    centre = ((left + right) / 2 / WIDTH, (top + bottom) / 2 / HEIGHT)
    return Placed(name, "thing", None, box, centre)


def scene(*objects: Placed) -> Scene:
    return Scene(
        Image.new("RGB", (WIDTH, HEIGHT), "blue"),
        "blue",
        objects,
    )
