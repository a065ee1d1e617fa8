"""Composed scenes: one to four cut-outs on a background of one colour, with everything that is true
of them.

Knows nothing of questions or training. The same seed and objects give the same scene, pixel by
pixel.
"""

from __future__ import annotations

import io
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from compressor.default_model.data import colours
from compressor.default_model.data.cutouts import Cutout, Objects, colour_of

SHORTEST_PX, LONGEST_PX = 224, 448
# Longest side of an object as a share of the image's shorter side, by the number of objects.
_SIZES = {1: (0.40, 0.92), 2: (0.30, 0.56), 3: (0.26, 0.46), 4: (0.23, 0.40)}
_MOST_OVERLAP = 0.03  # of the smaller box
_EDGE_PX = 3
# Mirrored, these stay what they are; signs, clocks and keyboards do not.
_MIRRORED = frozenset(
    {
        "animal", "bird", "fish", "insect", "fruit", "vegetable", "food", "vehicle", "clothing", "plant",
    }
)  # fmt: skip

# Things that come in any colour: their hues may be exchanged, so that a name does not tell the
# colour.
_OF_ANY_COLOUR = frozenset(
    {
        "vehicle",
        "clothing",
        "toy",
        "household",
        "office",
        "device",
        "tool",
        "furniture",
        "instrument",
        "building",
    }
)


@dataclass(frozen=True)
class Placed:
    """An object in a scene."""

    name: str
    category: str
    colour: str | None
    box: tuple[int, int, int, int]  # left, top, right, bottom in pixels, right and bottom exclusive
    centre: tuple[float, float]  # x and y as shares of the image's width and height

    @property
    def across(self) -> str | None:
        """ "left", "middle" or "right"; None where two of them could be meant."""
        return _third(self.centre[0], "left", "right")

    @property
    def down(self) -> str | None:
        """ "top", "middle" or "bottom"; None where two of them could be meant."""
        return _third(self.centre[1], "top", "bottom")


@dataclass(frozen=True)
class Scene:
    """An image and what is in it."""

    image: Image.Image  # RGB, sides of SHORTEST_PX..LONGEST_PX
    background: str  # one of the eleven colour words
    objects: tuple[Placed, ...]  # from left to right

    @property
    def counts(self) -> dict[str, int]:
        """How many there are of each name, from left to right."""
        counts: dict[str, int] = {}
        for placed in self.objects:
            counts[placed.name] = counts.get(placed.name, 0) + 1
        return counts


@dataclass(frozen=True)
class _Drawn:
    image: Image.Image  # RGBA, in the size it is pasted in
    name: str
    category: str
    colour: str | None


def compose(rng: random.Random, objects: Objects, groups: Sequence[int] | None = None) -> Scene:
    """A scene of random objects; `groups` fixes how many of each kind: (3,) three alike, (1, 1) two
    different things.

    Raises ValueError if there are fewer names than groups or no legible scene is found.
    """
    groups = tuple(groups) if groups is not None else _random_groups(rng)
    if len(objects.names) < len(groups):
        raise ValueError(f"{len(groups)} kinds of objects wanted, {len(objects.names)} names given")
    width, height = _random_size(rng)
    for _ in range(30):
        scene = _try_to_compose(rng, objects, groups, width, height)
        if scene:
            return scene
    raise ValueError(
        "no legible scene found: the objects look like every background, or do not fit"
    )


def _try_to_compose(
    rng: random.Random, objects: Objects, groups: Sequence[int], width: int, height: int
) -> Scene | None:
    total = sum(groups)
    low, high = _SIZES[min(total, 4)]
    size = rng.uniform(low, high) * min(width, height)
    chosen: list[_Drawn] = []
    for name, count in zip(_random_names(rng, objects, len(groups)), groups, strict=True):
        variants = [rng.choice(objects.by_name[name])]
        if rng.random() < 0.3:
            variants = list(objects.by_name[name])
        turn = (
            rng.uniform(30, 330)
            if variants[0].category in _OF_ANY_COLOUR and rng.random() < 0.4
            else None
        )
        for _ in range(count):
            cutout = rng.choice(variants)
            longest = round(min(size * rng.uniform(0.8, 1.2), 0.95 * min(width, height)))
            chosen.append(_drawn(rng, cutout, objects.open(cutout), longest, turn))
    background = _legible_background(rng, chosen)
    if background is None:
        return None
    boxes = _place(rng, [drawn.image.size for drawn in chosen], width, height)
    if boxes is None:
        return None
    canvas = _background(rng, background, width, height)
    placed = []
    for drawn, box in zip(chosen, boxes, strict=True):
        canvas.paste(drawn.image, box[:2], drawn.image)
        centre = ((box[0] + box[2]) / 2 / width, (box[1] + box[3]) / 2 / height)
        placed.append(Placed(drawn.name, drawn.category, drawn.colour, box, centre))
    placed.sort(key=lambda each: each.centre)
    return Scene(_weathered(rng, canvas), background, tuple(placed))


def _random_groups(rng: random.Random) -> tuple[int, ...]:
    total = rng.choices((1, 2, 3, 4), (32, 28, 22, 18))[0]
    if total == 1 or rng.random() < 0.5:
        return (total,)
    if total == 2 or rng.random() < 0.5:
        return (1,) * total
    if total == 3:
        return (2, 1)
    return rng.choice(((2, 2), (3, 1), (2, 1, 1)))


def _random_size(rng: random.Random) -> tuple[int, int]:
    width = rng.randint(SHORTEST_PX, LONGEST_PX)
    if rng.random() < 0.3:
        return width, width
    return width, rng.randint(SHORTEST_PX, LONGEST_PX)


def _random_names(rng: random.Random, objects: Objects, count: int) -> list[str]:
    """Different names, half of the time of one category; none is part of another ("apple", "apple
    core").
    """
    for _ in range(100):
        pool = objects.names
        if count > 1 and rng.random() < 0.5:
            category = objects.by_name[rng.choice(objects.names)][0].category
            pool = tuple(objects.names_of_category[category])
        if len(pool) >= count:
            names = rng.sample(pool, count)
            if not any(
                set(a.split()) & set(b.split()) - {"of"} for a in names for b in names if a is not b
            ):
                return names
    return rng.sample(objects.names, count)


def _drawn(
    rng: random.Random, cutout: Cutout, image: Image.Image, longest: int, turn: float | None
) -> _Drawn:
    """The cut-out in its size, perhaps mirrored, tilted, and with its hues turned by `turn` degrees."""
    colour = cutout.colour
    if turn is not None:
        image = colours.turned(image, turn)
        colour = colour_of(image)
    if cutout.category in _MIRRORED and rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if rng.random() < 0.3:
        image = image.rotate(rng.uniform(-15, 15), Image.Resampling.BICUBIC, expand=True)
        image = image.crop(image.getchannel("A").getbbox())
    scale = longest / max(image.size)
    size = (max(8, round(image.width * scale)), max(8, round(image.height * scale)))
    return _Drawn(
        image.resize(size, Image.Resampling.LANCZOS), cutout.name, cutout.category, colour
    )


def _legible_background(rng: random.Random, chosen: Sequence[_Drawn]) -> str | None:
    """A colour on which most of every object stands out."""
    taken = {drawn.colour for drawn in chosen}
    pixels = []
    for drawn in chosen:
        array = np.asarray(drawn.image.resize((24, 24), Image.Resampling.BOX))
        pixels.append(array[array[..., 3] > 100][:, :3].astype(np.float32))
    candidates = [colour for colour in colours.COLOURS if colour not in taken]
    rng.shuffle(candidates)
    for colour in candidates:
        # The typical shade decides: shades of one word differ less from one another than 90 of 255.
        typical = np.mean([colours.shade(colour, random.Random(n)) for n in range(8)], axis=0)
        if all((np.linalg.norm(seen - typical, axis=1) > 90).mean() > 0.65 for seen in pixels):
            return colour
    return None


def _place(
    rng: random.Random, sizes: Sequence[tuple[int, int]], width: int, height: int
) -> list[tuple[int, int, int, int]] | None:
    """Boxes inside the image that hardly overlap; two objects mostly lie clearly beside or above
    one another.
    """
    axis = rng.choice((0, 1)) if len(sizes) == 2 and rng.random() < 0.7 else None
    first = rng.choice((0, 1))
    boxes: list[tuple[int, int, int, int]] = []
    for number, (w, h) in enumerate(sizes):
        free = (width - w - 2 * _EDGE_PX, height - h - 2 * _EDGE_PX)
        if min(free) < 0:
            return None
        for _ in range(60):
            share = [_somewhere(rng) if len(sizes) == 1 else rng.random() for _ in free]
            if axis is not None:
                share[axis] = rng.uniform(0, 0.3) if number == first else rng.uniform(0.7, 1)
            left, top = (_EDGE_PX + round(share[side] * free[side]) for side in (0, 1))
            box = (left, top, left + w, top + h)
            if all(_overlap(box, other) <= _MOST_OVERLAP for other in boxes):
                boxes.append(box)
                break
        else:
            return None
    return boxes


def _somewhere(rng: random.Random) -> float:
    """A share of the free space: a thing alone is in the middle as often as at a side."""
    return (
        rng.uniform(0.4, 0.6)
        if rng.random() < 0.4
        else rng.choice((rng.uniform(0, 0.15), rng.uniform(0.85, 1)))
    )


def _overlap(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> float:
    """The shared area as a share of the smaller box."""
    across = min(one[2], other[2]) - max(one[0], other[0])
    down = min(one[3], other[3]) - max(one[1], other[1])
    smaller = min((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return max(0, across) * max(0, down) / smaller


def _third(share: float, low: str, high: str) -> str | None:
    if share <= 0.38:
        return low
    if share >= 0.62:
        return high
    return "middle" if 0.44 <= share <= 0.56 else None


def _background(rng: random.Random, colour: str, width: int, height: int) -> Image.Image:
    """Plain, a gradient, blotches, stripes or noise, all within shades of one colour word."""
    one, other = (np.array(colours.shade(colour, rng), dtype=np.float32) for _ in range(2))
    kind = rng.choices(("plain", "gradient", "blotches", "stripes", "noise"), (50, 20, 12, 6, 12))[
        0
    ]
    generator = np.random.default_rng(rng.getrandbits(64))
    x, y = np.meshgrid(
        np.linspace(-1, 1, width, dtype=np.float32), np.linspace(-1, 1, height, dtype=np.float32)
    )
    angle = rng.uniform(0, 2 * np.pi)
    along = x * np.cos(angle) + y * np.sin(angle)  # (H, W)
    mix: NDArray[np.floating] = np.zeros((height, width), np.float32)
    if kind == "gradient":
        mix = (along - along.min()) / (along.max() - along.min())
    elif kind == "blotches":
        coarse = generator.integers(0, 256, (rng.randint(3, 9), rng.randint(3, 9)), dtype=np.uint8)
        mix = (
            np.asarray(
                Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC),
                np.float32,
            )
            / 255
        )
    elif kind == "stripes":
        mix = (np.sin(along * rng.uniform(8, 40)) > 0).astype(np.float32)
    pixels = one + (other - one) * mix[..., None]
    if kind == "noise":
        pixels = pixels + generator.normal(0, rng.uniform(3, 14), (height, width, 1)).astype(
            np.float32
        )
    return Image.fromarray(pixels.clip(0, 255).round().astype(np.uint8))


def _weathered(rng: random.Random, image: Image.Image) -> Image.Image:
    """Now and then the small damage that real photographs have."""
    if rng.random() < 0.12:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.4, 1.1)))
    if rng.random() < 0.4:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=rng.randint(45, 92))
        image = Image.open(buffer).convert("RGB")
    return image
