"""First stage: the projector's heads, trained on the frozen vision tower's cells in a few minutes.

Knows nothing of the language model.
Shapes: M pictures, N cells, F features of a cell, W words of a head, D hidden size.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from PIL import Image
from torch import Tensor, nn

from compressor.default_model.data.cutouts import Objects
from compressor.default_model.data.photos import Photo
from compressor.default_model.data.scenes import Placed, Scene, compose
from compressor.default_model.llava import WordLlavaForConditionalGeneration
from compressor.default_model.object_head import inside
from compressor.default_model.projector import WordProjector
from compressor.default_model.vocabulary import Words


@dataclass(frozen=True)
class Seen:
    """What the frozen vision tower made of training pictures."""

    scenes: Sequence[Scene]
    scene_cells: Tensor  # (M, N, C) float16
    photos: Sequence[Photo]
    photo_cells: Tensor  # (M, N, C) float16


def train_heads(projector: WordProjector, words: Words, seen: Seen, seed: int = 1) -> Iterator[str]:
    """Trains all heads but the vision tower's own classifier and those of captions; yields a line
    after each.
    """
    torch.manual_seed(seed)
    for parameter in projector.parameters():
        parameter.requires_grad_(False)
    yield _fit_names(projector, words, seen)
    yield _fit_objects(projector, words, seen)
    yield _fit_colours(projector, words, seen)
    yield _fit_counts(projector, seen)


def mean_features(projector: WordProjector, cells: Tensor) -> Tensor:
    """(M, N, C) cells → (M, feature_size)."""
    return torch.cat([projector.split(part)[0].mean((2, 3)) for part in cells.split(256)])


def _fit_names(projector: WordProjector, words: Words, seen: Seen, steps: int = 1200) -> str:
    """What a box holds; rows of classes stay as they are, photographs keep things from winning."""
    things = {name: len(words.classes) + place for place, name in enumerate(words.things)}
    classes = {name: place for place, name in enumerate(words.classes)}
    rows = [row for row, scene in enumerate(seen.scenes) for _ in scene.objects]
    boxes = torch.tensor([box(thing) for scene in seen.scenes for thing in scene.objects])
    wanted = torch.tensor([things[thing.name] for scene in seen.scenes for thing in scene.objects])
    labelled = [row for row, photo in enumerate(seen.photos) if photo.label]
    photos = mean_features(projector, seen.photo_cells[labelled])
    names = torch.tensor([classes[str(seen.photos[row].label)] for row in labelled])
    nn.init.normal_(projector.things.weight, std=0.01)
    optimiser = _optimiser(projector.things, 3e-3, 0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps)
    for _ in range(steps):
        chosen = torch.randint(len(rows), (128,))
        features = projector.split(seen.scene_cells[[rows[row] for row in chosen]])[0]
        jittered = (
            boxes[chosen] + 0.05 * torch.randn(len(chosen), 4) * boxes[chosen][:, [2, 3, 2, 3]]
        )
        cover = inside(jittered.unsqueeze(1), projector.vision.grid_size)
        inputs = (cover @ features.flatten(2).transpose(1, 2))[:, 0]
        of_photos = torch.randint(len(photos), (48,))
        dropped = nn.functional.dropout(torch.cat([inputs, photos[of_photos]]), 0.2)
        logits = projector.name_logits(dropped)
        _descend(
            optimiser,
            nn.functional.cross_entropy(logits, torch.cat([wanted[chosen], names[of_photos]])),
        )
        schedule.step()
    projector.things.requires_grad_(False)
    return f"names: {len(things)} things from {len(rows)} boxes"


def box(thing: Placed) -> tuple[float, float, float, float]:
    """Centre x, centre y, width and height as shares of the picture."""
    left, top, right, bottom = thing.box
    x, y = thing.centre
    return (
        x,
        y,
        (right - left) / ((left + right) / 2 / x),
        (bottom - top) / ((top + bottom) / 2 / y),
    )


def heat(scene: Scene, side: int) -> Tensor:
    """(side, side) 1 where the centre of a thing is, falling off around it as a Gaussian of a sixth
    of its size.
    """
    found = torch.zeros(side, side)
    middle = torch.arange(side) + 0.5
    for thing in scene.objects:
        x, y, width, height = box(thing)
        column, row = (min(int(share * side), side - 1) for share in (x, y))
        across = torch.exp(-0.5 * ((middle - column - 0.5) / max(0.5, width * side / 6)) ** 2)
        down = torch.exp(-0.5 * ((middle - row - 0.5) / max(0.5, height * side / 6)) ** 2)
        found = torch.maximum(found, down[:, None] * across[None, :])
    return found


def _fit_objects(
    projector: WordProjector, words: Words, seen: Seen, steps: int = 1500, rate: float = 2e-3
) -> str:
    """Centres, boxes and colours of things in scenes; in photographs nothing is to be found
    (CornerNet's loss).
    """
    side = 2 * projector.vision.grid_size
    heats = torch.stack([heat(scene, side) for scene in seen.scenes])
    optimiser = _optimiser(projector.objects, rate, 0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps)
    projector.objects.train()
    for _ in range(steps):
        chosen, others = (
            torch.randint(len(heats), (32,)),
            torch.randint(len(seen.photo_cells), (8,)),
        )
        cells = torch.cat([seen.scene_cells[chosen], seen.photo_cells[others]])
        maps = projector.objects(*projector.split(cells))
        wanted = torch.cat([heats[chosen], torch.zeros(len(others), side, side)])
        likely = maps.centres.sigmoid().clamp(1e-4, 1 - 1e-4)
        focal = torch.where(
            wanted == 1,
            (1 - likely) ** 2 * likely.log(),
            (1 - wanted) ** 4 * likely**2 * (1 - likely).log(),
        )
        things = [
            (row, t)
            for row, number in enumerate(chosen.tolist())
            for t in seen.scenes[number].objects
        ]
        boxes = torch.tensor([box(thing) for _, thing in things])
        places = (boxes[:, :2] * side).long().clamp(max=side - 1)
        at = (torch.tensor([row for row, _ in things]), slice(None), places[:, 1], places[:, 0])
        aims = torch.cat([boxes[:, :2] * side - places, boxes[:, 2:]], dim=1)
        colours = torch.tensor(
            [words.colours.index(t.colour) if t.colour else -100 for _, t in things]
        )
        loss = -focal.sum() / len(things) + 3 * nn.functional.l1_loss(maps.boxes[at], aims)
        _descend(optimiser, loss + 0.3 * nn.functional.cross_entropy(maps.colours[at], colours))
        schedule.step()
    projector.objects.eval().requires_grad_(False)
    return f"objects: {len(heats)} scenes"


def _fit_colours(projector: WordProjector, words: Words, seen: Seen, steps: int = 600) -> str:
    colours = torch.cat([projector.split(part)[2] for part in seen.scene_cells.split(256)])
    wanted = torch.tensor([words.colours.index(scene.background) for scene in seen.scenes])
    optimiser = _optimiser(projector.colours, 5e-3, 0.01)
    for _ in range(steps):
        chosen = torch.randint(len(colours), (256,))
        logits = projector.background_logits(colours[chosen])
        _descend(optimiser, nn.functional.cross_entropy(logits, wanted[chosen]))
    projector.colours.requires_grad_(False)
    return f"colours: {len(seen.scenes)} scenes"


def _fit_counts(projector: WordProjector, seen: Seen, steps: int = 900, rate: float = 2e-3) -> str:
    wanted = torch.tensor([len(scene.objects) for scene in seen.scenes])
    optimiser = _optimiser(projector.counts, rate, 0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps)
    projector.counts.train()
    for step in range(steps):
        chosen = torch.randint(len(wanted), (64,))
        grid = nn.functional.pixel_shuffle(projector.split(seen.scene_cells[chosen])[1], 2)
        mirrored = grid.flip([axis for axis, bit in ((-1, 1), (-2, 2)) if step & bit])
        logits = projector.counts(nn.functional.pixel_unshuffle(mirrored, 2))
        _descend(
            optimiser, nn.functional.cross_entropy(logits, wanted[chosen], label_smoothing=0.05)
        )
        schedule.step()
    projector.counts.eval().requires_grad_(False)
    return f"counts: {len(wanted)} scenes"


def _optimiser(head: nn.Module, rate: float, decay: float) -> torch.optim.AdamW:
    head.requires_grad_(True)
    return torch.optim.AdamW(head.parameters(), lr=rate, weight_decay=decay)


def _descend(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()


# Runs the frozen vision tower over training pictures once, for the heads' stage.


_BATCH = 16


def cells(
    model: WordLlavaForConditionalGeneration, images: Iterator[Image.Image], processor: object
) -> Tensor:
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
            scenes.append(
                dataclasses.replace(scene, image=Image.new("RGB", (1, 1)))
            )  # pixels are not kept
            yield scene.image

    def mirrored() -> Iterator[Image.Image]:
        for photo in photos:
            yield photo.open().transpose(Image.Transpose.FLIP_LEFT_RIGHT)

    of_scenes = cells(model, composed(), processor)
    plain = cells(model, (photo.open() for photo in photos), processor)
    return Seen(
        scenes,
        of_scenes,
        [*photos, *photos],
        torch.cat([plain, cells(model, mirrored(), processor)]),
    )
