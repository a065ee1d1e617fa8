"""Runs the frozen vision tower over training pictures once, for the heads' stage.

Knows nothing of what is learnt from it.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator, Sequence
from itertools import islice

import torch
from PIL import Image
from torch import Tensor

from compressor.llava import WordLlavaForConditionalGeneration
from compressor.training.data.objects import Objects
from compressor.training.data.photos import Photo
from compressor.training.data.scenes import Scene, compose
from compressor.training.heads import Seen

_BATCH = 16


def cells(model: WordLlavaForConditionalGeneration, images: Iterator[Image.Image], processor: object) -> Tensor:
    """(M, N, C) float16 cells of M images."""
    found = []
    with torch.inference_mode():
        while batch := list(islice(images, _BATCH)):
            pixels = processor.image_processor(batch, return_tensors="pt")["pixel_values"]  # type: ignore[attr-defined]
            found.append(model.model.vision_tower(pixels).last_hidden_state.half())
    return torch.cat(found).clone()


def see(
    model: WordLlavaForConditionalGeneration,
    processor: object,
    photos: Sequence[Photo],
    objects: Objects,
    scene_count: int,
    seed: int,
) -> Seen:
    """Cells of each photograph, plain and mirrored, and of `scene_count` composed scenes."""
    rng = random.Random(f"heads/{seed}")
    scenes: list[Scene] = []

    def composed() -> Iterator[Image.Image]:
        for _ in range(scene_count):
            scene = compose(rng, objects)
            scenes.append(dataclasses.replace(scene, image=Image.new("RGB", (1, 1))))  # pixels are not kept
            yield scene.image

    def mirrored() -> Iterator[Image.Image]:
        for photo in photos:
            yield photo.open().transpose(Image.Transpose.FLIP_LEFT_RIGHT)

    of_scenes = cells(model, composed(), processor)
    plain = cells(model, (photo.open() for photo in photos), processor)
    return Seen(scenes, of_scenes, [*photos, *photos], torch.cat([plain, cells(model, mirrored(), processor)]))
