"""Composes scenes of one to four cut-outs on one colour, and notes all that is true of them.

The same seed and objects give the same scene, pixel by pixel.
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
_SIZES = {
    1: (0.40, 0.92),
    2: (0.30, 0.56),
    3: (0.26, 0.46),
    4: (0.23, 0.40),
}
_MOST_OVERLAP = 0.03  # of the smaller box
_EDGE_PX = 3
# Mirrored, these stay what they are; signs, clocks and keyboards do not.
_MIRRORED = frozenset(
    {
        "animal", "bird", "fish", "insect", "fruit", "vegetable", "food", "vehicle", "clothing",
        "plant",
    }
)  # fmt: skip
# Objects that come in any colour: their hues may be exchanged, so that a name does not tell the
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
# Kinds of background and their weights.
_BACKGROUNDS = {
    "plain": 50,
    "gradient": 20,
    "blotches": 12,
    "stripes": 6,
    "noise": 12,
}
_BOX = tuple[int, int, int, int]  # left, top, right, bottom in pixels


@dataclass(frozen=True)
class Placed:
    """An object in a scene."""

    name: str
    category: str
    colour: str | None
    box: _BOX  # right and bottom exclusive
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


def compose(
    rng: random.Random,
    objects: Objects,
    groups: Sequence[int] | None = None,
) -> Scene:
    """A scene of random objects.

    `groups` fixes how many of each name: (3,) three alike, (1, 1) two different objects. Raises
    ValueError for fewer names than groups, or if no legible scene is found.
    """
    groups = tuple(groups) if groups is not None else _random_groups(rng)
    if len(objects.names) < len(groups):
        raise ValueError(
            f"a scene of {len(groups)} names cannot be made of {len(objects.names)} names"
        )
    width, height = _random_size(rng)
    # A draw may fail: no colour differs from all objects, or they do not fit beside one another.
    for _ in range(30):
        scene = _try_to_compose(rng, objects, groups, width, height)
        if scene:
            return scene
    raise ValueError(
        "no legible scene: the objects look like every background, or do not fit"
    )


def _try_to_compose(
    rng: random.Random,
    objects: Objects,
    groups: Sequence[int],
    width: int,
    height: int,
) -> Scene | None:
    chosen = _chosen_objects(rng, objects, groups, min(width, height))
    background = _legible_background(rng, chosen)
    if background is None:
        return None
    boxes = _place(
        rng,
        [drawn.image.size for drawn in chosen],
        width,
        height,
    )
    if boxes is None:
        return None
    # Pasted in order, so that a later object lies over an earlier one where boxes overlap.
    canvas = _background(rng, background, width, height)
    placed = []
    for drawn, box in zip(chosen, boxes, strict=True):
        canvas.paste(drawn.image, box[:2], drawn.image)
        left, top, right, bottom = box
        centre = ((left + right) / 2 / width, (top + bottom) / 2 / height)
        placed.append(Placed(drawn.name, drawn.category, drawn.colour, box, centre))
    # Reading order: it is the order in which summary tokens say the objects.
    placed.sort(key=lambda each: each.centre)
    return Scene(_weathered(rng, canvas), background, tuple(placed))


def _chosen_objects(
    rng: random.Random,
    objects: Objects,
    groups: Sequence[int],
    shorter_side: int,
) -> list[_Drawn]:
    low, high = _SIZES[min(sum(groups), 4)]
    size = rng.uniform(low, high) * shorter_side
    chosen: list[_Drawn] = []
    names = _random_names(rng, objects, len(groups))
    for name, count in zip(names, groups, strict=True):
        # Mostly copies of one cut-out, for "three apples" are mostly alike.
        variants = [rng.choice(objects.by_name[name])]
        if rng.random() < 0.3:
            variants = list(objects.by_name[name])
        turn = None
        if variants[0].category in _OF_ANY_COLOUR and rng.random() < 0.4:
            turn = rng.uniform(30, 330)
        for _ in range(count):
            cutout = rng.choice(variants)
            longest = round(min(size * rng.uniform(0.8, 1.2), 0.95 * shorter_side))
            chosen.append(_drawn(rng, cutout, objects.open(cutout), longest, turn))
    return chosen


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
    """Different names, half of the time of one category."""
    for _ in range(100):
        pool = objects.names
        if count > 1 and rng.random() < 0.5:
            category = objects.by_name[rng.choice(objects.names)][0].category
            pool = tuple(objects.names_of_category[category])
        if len(pool) >= count:
            names = rng.sample(pool, count)
            if not _share_a_word(names):
                return names
    # A small set of objects may have no such names, and a scene is needed all the same.
    return rng.sample(objects.names, count)


def _share_a_word(names: Sequence[str]) -> bool:
    """Whether two names have a word in common: an "apple core" might be called an apple."""
    taken: set[str] = set()
    for name in names:
        words = set(name.split()) - {"of"}
        if words & taken:
            return True
        taken |= words
    return False


def _drawn(
    rng: random.Random,
    cutout: Cutout,
    image: Image.Image,
    longest: int,
    turn: float | None,
) -> _Drawn:
    """The cut-out in its size, perhaps mirrored or tilted, its hues turned by `turn` degrees."""
    colour = cutout.colour
    if turn is not None:
        image = colours.turned(image, turn)
        # Named anew: the turned hues may be of another word, or of none that is clear.
        colour = colour_of(image)
    if cutout.category in _MIRRORED and rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if rng.random() < 0.3:
        image = image.rotate(
            rng.uniform(-15, 15),
            Image.Resampling.BICUBIC,
            expand=True,
        )
        # Turning leaves empty corners, and a box has to end where its object does.
        image = image.crop(image.getchannel("A").getbbox())
    scale = longest / max(image.size)
    size = (max(8, round(image.width * scale)), max(8, round(image.height * scale)))
    return _Drawn(
        image.resize(size, Image.Resampling.LANCZOS),
        cutout.name,
        cutout.category,
        colour,
    )


def _legible_background(rng: random.Random, chosen: Sequence[_Drawn]) -> str | None:
    """A colour on which most of every object stands out."""
    pixels = []
    for drawn in chosen:
        array = np.asarray(drawn.image.resize((24, 24), Image.Resampling.BOX))
        opaque = array[array[..., 3] > 100]
        pixels.append(opaque[:, :3].astype(np.float32))
    taken = {drawn.colour for drawn in chosen}
    candidates = [colour for colour in colours.COLOURS if colour not in taken]
    rng.shuffle(candidates)
    for colour in candidates:
        # The typical shade decides: shades of one word differ less from one another than 90 of 255.
        shades = [colours.shade(colour, random.Random(number)) for number in range(8)]
        typical = np.mean(shades, axis=0)
        if all(_stands_out(of_object, typical) for of_object in pixels):
            return colour
    return None


def _stands_out(pixels: NDArray[np.float32], shade: NDArray[np.float64]) -> bool:
    """Whether most of an object's pixels (N, 3) are far from the shade (3,)."""
    distances = np.linalg.norm(pixels - shade, axis=1)
    return bool((distances > 90).mean() > 0.65)


def _place(
    rng: random.Random,
    sizes: Sequence[tuple[int, int]],
    width: int,
    height: int,
) -> list[_BOX] | None:
    """Boxes inside the image that hardly overlap.

    Two objects mostly lie clearly beside or above each other.
    """
    # Two objects at random mostly lie diagonally, where "left or right?" is hard to answer.
    axis = rng.choice((0, 1)) if len(sizes) == 2 and rng.random() < 0.7 else None
    first = rng.choice((0, 1))
    boxes: list[_BOX] = []
    for number, (box_width, box_height) in enumerate(sizes):
        free = (width - box_width - 2 * _EDGE_PX, height - box_height - 2 * _EDGE_PX)
        if min(free) < 0:
            return None
        for _ in range(60):
            share = [_somewhere(rng) if len(sizes) == 1 else rng.random() for _ in free]
            if axis is not None:
                share[axis] = (
                    rng.uniform(0, 0.3) if number == first else rng.uniform(0.7, 1)
                )
            left = _EDGE_PX + round(share[0] * free[0])
            top = _EDGE_PX + round(share[1] * free[1])
            box = (left, top, left + box_width, top + box_height)
            if all(_overlap(box, other) <= _MOST_OVERLAP for other in boxes):
                boxes.append(box)
                break
        else:
            return None
    return boxes


def _somewhere(rng: random.Random) -> float:
    """A share of the free space: a single object is in the middle as often as at a side."""
    if rng.random() < 0.4:
        return rng.uniform(0.4, 0.6)
    return rng.choice((rng.uniform(0, 0.15), rng.uniform(0.85, 1)))


def _overlap(first: _BOX, second: _BOX) -> float:
    """The shared area as a share of the smaller box."""
    across = min(first[2], second[2]) - max(first[0], second[0])
    down = min(first[3], second[3]) - max(first[1], second[1])
    smaller = min(_area(first), _area(second))
    return max(0, across) * max(0, down) / smaller


def _area(box: _BOX) -> int:
    left, top, right, bottom = box
    return (right - left) * (bottom - top)


def _third(share: float, low: str, high: str) -> str | None:
    # Gaps between the ranges: near their borders people disagree on the word.
    if share <= 0.38:
        return low
    if share >= 0.62:
        return high
    return "middle" if 0.44 <= share <= 0.56 else None


def _background(
    rng: random.Random,
    colour: str,
    width: int,
    height: int,
) -> Image.Image:
    """Plain, a gradient, blotches, stripes or noise, all within shades of one colour word."""
    first = np.array(colours.shade(colour, rng), dtype=np.float32)
    second = np.array(colours.shade(colour, rng), dtype=np.float32)
    kind = rng.choices(list(_BACKGROUNDS), list(_BACKGROUNDS.values()))[0]
    # NumPy draws whole fields at once; seeded like this, the scene's seed still decides every
    # pixel.
    generator = np.random.default_rng(rng.getrandbits(64))
    angle = rng.uniform(0, 2 * np.pi)
    mix = _mix(rng, generator, kind, angle, (width, height))
    pixels = first + (second - first) * mix[..., None]
    if kind == "noise":
        noise = generator.normal(0, rng.uniform(3, 14), (height, width, 1))
        pixels = pixels + noise.astype(np.float32)
    return Image.fromarray(pixels.clip(0, 255).round().astype(np.uint8))


def _mix(
    rng: random.Random,
    generator: np.random.Generator,
    kind: str,
    angle: float,
    size: tuple[int, int],
) -> NDArray[np.floating]:
    """(H, W) share of the second shade in 0..1, for a (width, height)."""
    width, height = size
    columns = np.linspace(-1, 1, width, dtype=np.float32)
    rows = np.linspace(-1, 1, height, dtype=np.float32)
    x, y = np.meshgrid(columns, rows)
    along = x * np.cos(angle) + y * np.sin(angle)
    mix: NDArray[np.floating] = np.zeros((height, width), np.float32)
    if kind == "gradient":
        mix = (along - along.min()) / (along.max() - along.min())
    elif kind == "blotches":
        grid = (rng.randint(3, 9), rng.randint(3, 9))
        coarse = Image.fromarray(generator.integers(0, 256, grid, dtype=np.uint8))
        smooth = coarse.resize(size, Image.Resampling.BICUBIC)
        mix = np.asarray(smooth, np.float32) / 255
    elif kind == "stripes":
        mix = (np.sin(along * rng.uniform(8, 40)) > 0).astype(np.float32)
    return mix


def _weathered(rng: random.Random, image: Image.Image) -> Image.Image:
    """Now and then the small damage that real photographs have."""
    # A head could otherwise tell objects by their clean edges.
    if rng.random() < 0.12:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.4, 1.1)))
    if rng.random() < 0.4:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=rng.randint(45, 92))
        image = Image.open(buffer).convert("RGB")
    return image
