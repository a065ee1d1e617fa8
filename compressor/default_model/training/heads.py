"""First stage: the projector's heads, trained on the frozen vision tower's cells in a few minutes.

Shapes: M pictures, N cells, C numbers of a cell, F features of a cell, W words of a head.
"""

from __future__ import annotations

import dataclasses
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from compressor.default_model.data.cutouts import Objects
from compressor.default_model.data.photos import FOLDS, Photo
from compressor.default_model.data.scenes import Placed, Scene, compose
from compressor.default_model.llava import WordLlavaForConditionalGeneration
from compressor.default_model.object_head import ObjectMaps, box_coverage
from compressor.default_model.projector import (
    CaptionHeads,
    WordProjector,
    power_normalise,
)
from compressor.default_model.training.word_supervision import caption_tokens
from compressor.default_model.vocabulary import Words

_BATCH = 16
# Beside the centre loss.
_BOX_WEIGHT, _COLOUR_WEIGHT = 3, 0.3
_NO_COLOUR = -100  # the label that cross entropy ignores


@dataclass(frozen=True)
class CachedFeatures:
    """The frozen vision tower's cells of training pictures, computed once."""

    scenes: Sequence[Scene]
    scene_cells: Tensor  # (M, N, C) float16
    photos: Sequence[Photo]
    photo_cells: Tensor  # (M, N, C) float16


def cache_features(
    model: WordLlavaForConditionalGeneration,
    processor: Any,
    photos: Sequence[Photo],
    objects: Objects,
    scene_count: int,
    seed: int,
) -> CachedFeatures:
    """Cells of each photograph, plain and mirrored, and of `scene_count` composed scenes."""
    rng = random.Random(f"heads/{seed}")
    scenes: list[Scene] = []

    def composed() -> Iterator[Image.Image]:
        for _ in range(scene_count):
            scene = compose(rng, objects)
            # Thousands of scenes would fill the memory with pixels that nothing reads again.
            scenes.append(dataclasses.replace(scene, image=Image.new("RGB", (1, 1))))
            yield scene.image

    plain = (photo.open() for photo in photos)
    mirrored = (
        photo.open().transpose(Image.Transpose.FLIP_LEFT_RIGHT) for photo in photos
    )
    scene_cells = cells(model, composed(), processor)
    photo_cells = [cells(model, plain, processor), cells(model, mirrored, processor)]
    return CachedFeatures(
        scenes,
        scene_cells,
        [*photos, *photos],
        torch.cat(photo_cells),
    )


def cells(
    model: WordLlavaForConditionalGeneration,
    images: Iterable[Image.Image],
    processor: Any,
) -> Tensor:
    """(M, N, C) float16 cells of M images."""
    images = iter(images)
    parts = []
    with torch.inference_mode():
        while batch := list(islice(images, _BATCH)):
            pixels = processor.image_processor(batch, return_tensors="pt")[
                "pixel_values"
            ]
            parts.append(model.model.vision_tower(pixels).last_hidden_state.half())
    # Outside the mode, a clone: tensors made in inference mode cannot take part in training.
    return torch.cat(parts).clone()


def train_heads(
    projector: WordProjector,
    words: Words,
    features: CachedFeatures,
    seed: int = 1,
) -> Iterator[str]:
    """Trains all heads but the tower's own classifier and those of captions.

    Yields a line after each.
    """
    torch.manual_seed(seed)
    # Each fit turns on the gradients of its own head, so that no head moves another.
    for parameter in projector.parameters():
        parameter.requires_grad_(False)
    yield _fit_names(projector, words, features)
    yield _fit_detector(projector, words, features)
    yield _fit_colours(projector, words, features)
    yield _fit_counts(projector, features)


def mean_features(projector: WordProjector, cells: Tensor) -> Tensor:
    """(M, N, C) cells → (M, F)."""
    parts = []
    for part in cells.split(256):
        features, _, _ = projector.split(part)
        parts.append(features.mean((2, 3)))
    return torch.cat(parts)


def box(placed: Placed) -> tuple[float, float, float, float]:
    """Centre x, centre y, width and height as shares of the picture."""
    left, top, right, bottom = placed.box
    x, y = placed.centre
    # A scene's image is not kept, so its size comes from the centre: in pixels it is the mean of
    # the box's sides, in shares x and y.
    picture_width = (left + right) / 2 / x
    picture_height = (top + bottom) / 2 / y
    return x, y, (right - left) / picture_width, (bottom - top) / picture_height


def centre_heatmap(scene: Scene, side: int) -> Tensor:
    """(side, side): 1 at the centre of an object, a Gaussian of a sixth of its size around it."""
    heatmap = torch.zeros(side, side)
    middle = torch.arange(side) + 0.5
    for placed in scene.objects:
        x, y, width, height = box(placed)
        column = min(int(x * side), side - 1)
        row = min(int(y * side), side - 1)
        across = _gaussian(middle, column + 0.5, width * side / 6)
        down = _gaussian(middle, row + 0.5, height * side / 6)
        heatmap = torch.maximum(heatmap, down[:, None] * across[None, :])
    return heatmap


def _gaussian(x: Tensor, mean: float, std: float) -> Tensor:
    # Half a place at least, or a small object's centre would be the only place that is not 0.
    return torch.exp(-0.5 * ((x - mean) / max(0.5, std)) ** 2)


def _fit_names(
    projector: WordProjector,
    words: Words,
    features: CachedFeatures,
    steps: int = 1200,
) -> str:
    """What a box holds. Rows of the tower's classes stay as they are."""
    object_rows = {
        name: len(words.classes) + row for row, name in enumerate(words.objects)
    }
    class_rows = {name: row for row, name in enumerate(words.classes)}
    scene_of_box, boxes, box_names = [], [], []
    for number, scene in enumerate(features.scenes):
        for placed in scene.objects:
            scene_of_box.append(number)
            boxes.append(box(placed))
            box_names.append(object_rows[placed.name])
    all_boxes, all_names = torch.tensor(boxes), torch.tensor(box_names)
    labelled = [row for row, photo in enumerate(features.photos) if photo.label]
    photos = mean_features(projector, features.photo_cells[labelled])
    labels = [class_rows[str(features.photos[row].label)] for row in labelled]
    photo_names = torch.tensor(labels)

    # Small at the start: the tower's classes are trained, and new names must not drown them.
    nn.init.normal_(projector.object_names.weight, std=0.01)
    optimiser = _optimiser(projector.object_names, 3e-3, 0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser,
        3e-3,
        total_steps=steps,
    )
    for _ in range(steps):
        chosen = torch.randint(len(scene_of_box), (128,))
        scenes = [scene_of_box[number] for number in chosen.tolist()]
        grid, _, _ = projector.split(features.scene_cells[scenes])
        # The detector's boxes are not exact, so names are learnt from boxes that are not either.
        sizes = all_boxes[chosen][:, [2, 3, 2, 3]]
        jittered = all_boxes[chosen] + 0.05 * torch.randn(len(chosen), 4) * sizes
        coverage = box_coverage(jittered.unsqueeze(1), projector.vision.grid_size)
        pooled = (coverage @ grid.flatten(2).transpose(1, 2))[:, 0]
        # Photographs of the tower's classes keep object names from winning everywhere.
        photo_rows = torch.randint(len(photos), (48,))
        inputs = nn.functional.dropout(torch.cat([pooled, photos[photo_rows]]), 0.2)
        targets = torch.cat([all_names[chosen], photo_names[photo_rows]])
        loss = nn.functional.cross_entropy(projector.name_logits(inputs), targets)
        _descend(optimiser, loss)
        schedule.step()
    projector.object_names.requires_grad_(False)
    return f"names: {len(object_rows)} things from {len(scene_of_box)} boxes"


def _fit_detector(
    projector: WordProjector,
    words: Words,
    features: CachedFeatures,
    steps: int = 1500,
    learning_rate: float = 2e-3,
) -> str:
    """Centres, boxes and colours of objects in scenes; in photographs nothing is to be found."""
    side = 2 * projector.vision.grid_size
    heatmaps = torch.stack([centre_heatmap(scene, side) for scene in features.scenes])
    optimiser = _optimiser(projector.detector, learning_rate, 0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser,
        learning_rate,
        total_steps=steps,
    )
    projector.detector.train()
    for _ in range(steps):
        chosen = torch.randint(len(heatmaps), (32,))
        photos = torch.randint(len(features.photo_cells), (8,))
        cells = torch.cat([features.scene_cells[chosen], features.photo_cells[photos]])
        maps = projector.detector(*projector.split(cells))
        # A photograph's objects are for the tower's classifier, which reads it as a whole.
        empty = torch.zeros(len(photos), side, side)
        centre_loss = _focal_loss(maps.centres, torch.cat([heatmaps[chosen], empty]))
        scenes = [features.scenes[number] for number in chosen.tolist()]
        _descend(optimiser, _detection_loss(maps, centre_loss, scenes, words))
        schedule.step()
    projector.detector.train(False).requires_grad_(False)
    return f"objects: {len(heatmaps)} scenes"


def _focal_loss(centres: Tensor, heatmaps: Tensor) -> Tensor:
    """Sum of the penalty-reduced focal loss (CornerNet, arXiv 1808.01244, equation 1), negated.

    Nearly all places are empty; the powers keep the easy ones from drowning the centres.
    """
    likely = centres.sigmoid().clamp(1e-4, 1 - 1e-4)
    at_centres = (1 - likely) ** 2 * likely.log()
    elsewhere = (1 - heatmaps) ** 4 * likely**2 * (1 - likely).log()
    return torch.where(heatmaps == 1, at_centres, elsewhere).sum()


def _detection_loss(
    maps: ObjectMaps,
    centre_sum: Tensor,
    scenes: Sequence[Scene],
    words: Words,
) -> Tensor:
    """The three losses of a batch whose first rows are `scenes`, each a mean over objects."""
    side = maps.centres.shape[-1]
    rows, boxes, labels = [], [], []
    for row, scene in enumerate(scenes):
        for placed in scene.objects:
            rows.append(row)
            boxes.append(box(placed))
            colour = placed.colour
            labels.append(words.colours.index(colour) if colour else _NO_COLOUR)
    targets = torch.tensor(boxes)
    places = (targets[:, :2] * side).long().clamp(max=side - 1)
    at = (
        torch.tensor(rows),
        slice(None),
        places[:, 1],
        places[:, 0],
    )
    offsets = targets[:, :2] * side - places
    box_targets = torch.cat([offsets, targets[:, 2:]], dim=1)
    box_loss = nn.functional.l1_loss(maps.boxes[at], box_targets)
    colour_loss = nn.functional.cross_entropy(maps.colours[at], torch.tensor(labels))
    centre_loss = -centre_sum / len(rows)
    return centre_loss + _BOX_WEIGHT * box_loss + _COLOUR_WEIGHT * colour_loss


def _fit_colours(
    projector: WordProjector,
    words: Words,
    features: CachedFeatures,
    steps: int = 600,
) -> str:
    parts = [projector.split(part)[2] for part in features.scene_cells.split(256)]
    colours = torch.cat(parts)
    labels = [words.colours.index(scene.background) for scene in features.scenes]
    targets = torch.tensor(labels)
    # Backgrounds alone: their colour is known for certain, and a shade means the same elsewhere.
    optimiser = _optimiser(projector.colours, 5e-3, 0.01)
    for _ in range(steps):
        chosen = torch.randint(len(colours), (256,))
        logits = projector.background_logits(colours[chosen])
        _descend(optimiser, nn.functional.cross_entropy(logits, targets[chosen]))
    projector.colours.requires_grad_(False)
    return f"colours: {len(features.scenes)} scenes"


def _fit_counts(
    projector: WordProjector,
    features: CachedFeatures,
    steps: int = 900,
    learning_rate: float = 2e-3,
) -> str:
    targets = torch.tensor([len(scene.objects) for scene in features.scenes])
    optimiser = _optimiser(projector.counts, learning_rate, 0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser,
        learning_rate,
        total_steps=steps,
    )
    projector.counts.train()
    for step in range(steps):
        chosen = torch.randint(len(targets), (64,))
        _, fine_features, _ = projector.split(features.scene_cells[chosen])
        grid = nn.functional.pixel_shuffle(fine_features, 2)
        # All four mirror images in turn: a number does not depend on where things stand.
        mirrored_axes = [axis for axis, bit in ((-1, 1), (-2, 2)) if step & bit]
        mirrored = nn.functional.pixel_unshuffle(grid.flip(mirrored_axes), 2)
        logits = projector.counts(mirrored)
        loss = nn.functional.cross_entropy(
            logits,
            targets[chosen],
            label_smoothing=0.05,
        )
        _descend(optimiser, loss)
        schedule.step()
    projector.counts.train(False).requires_grad_(False)
    return f"counts: {len(targets)} scenes"


def _optimiser(
    head: nn.Module,
    learning_rate: float,
    decay: float,
) -> torch.optim.AdamW:
    head.requires_grad_(True)
    return torch.optim.AdamW(
        head.parameters(),
        lr=learning_rate,
        weight_decay=decay,
    )


def _descend(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()


FOLDS_FILE = "folds.safetensors"  # beside the weights; only training needs it
MIN_MENTIONS = 8  # photographs whose captions must have a word for it to be in the list
# Words that say nothing of a picture by themselves.
_EMPTY_WORDS = frozenset(
    {
        "a", "an", "the", "in", "on", "of", "is", "are", "with", "at", "to", "and", "it", "its",
        "his", "her", "their", "up", "from", "by", "while", "as", "for", "into", "through", "out",
        "over", "off", "near", "down", "that", "one", "another", "some", "other", "who", "has",
        "have", "s", "being", "there", "him", "each", "something",
    }
)  # fmt: skip
_SHARES_PENALTY, _EMBEDDING_PENALTY = 3000.0, 8000.0
_BLANKS = (
    400  # scenes on which the heads learn to say nothing: drawings have no captions
)
_BLANK_WEIGHT = 0.3
# Field of CaptionHeads → its name in the folds' file.
_STORED_NAMES = {"captions": "captions", "caption_embedding": "sense"}


def caption_words(photos: Sequence[Photo]) -> tuple[str, ...]:
    """Frequent words of the captions, most frequent first, ties by the alphabet."""
    mentions: Counter[str] = Counter()
    for photo in photos:
        # Five captions of one photograph say the same word five times; it counts once.
        words: set[str] = set()
        for text in photo.captions:
            words.update(caption_tokens(text))
        mentions.update(words - _EMPTY_WORDS)
    ranked = sorted(mentions.items(), key=lambda mention: (-mention[1], mention[0]))
    return tuple(word for word, count in ranked if count >= MIN_MENTIONS)


def fit_captions(
    projector: WordProjector,
    words: Words,
    features: CachedFeatures,
    embed: Callable[[str], Tensor],
) -> list[CaptionHeads]:
    """Fits the projector's two heads to all photographs; returns the heads without each fold.

    `embed` gives a text's (D,) mean token embedding.
    """
    rows = [row for row, photo in enumerate(features.photos) if photo.captions]
    captioned = [features.photos[row] for row in rows]
    shares = _word_shares(captioned, words)
    embeddings = torch.stack([_mean_caption(photo, embed) for photo in captioned])
    # Float32 features of all photographs fit into memory, and a closed form needs no step size.
    photos = power_normalise(mean_features(projector, features.photo_cells[rows]))
    blanks = power_normalise(mean_features(projector, features.scene_cells[:_BLANKS]))
    word_length = projector.caption_words.norm(dim=-1).mean()
    folds = torch.tensor([photo.fold for photo in captioned])

    def fitted_to(chosen: Tensor) -> CaptionHeads:
        targets = _Targets(shares[chosen], embeddings[chosen], word_length)
        return _ridge(photos[chosen], blanks, targets)

    whole = fitted_to(torch.ones(len(rows), dtype=torch.bool))
    projector.captions.load_state_dict(whole.captions.state_dict())
    projector.caption_embedding.load_state_dict(whole.caption_embedding.state_dict())
    return [fitted_to(folds != fold) for fold in range(FOLDS)]


def save_folds(folds: Sequence[CaptionHeads], folder: Path) -> None:
    """Writes the heads without each fold, in float16."""
    state: dict[str, Tensor] = {}
    for fold, heads in enumerate(folds):
        for field, stored in _STORED_NAMES.items():
            head: nn.Linear = getattr(heads, field)
            for part, value in head.state_dict().items():
                state[f"{fold}.{stored}.{part}"] = value.half().contiguous()
    save_file(state, folder / FOLDS_FILE)


def load_folds(folder: Path) -> list[CaptionHeads]:
    """The heads without each fold; none where the folder has none, as that of released weights."""
    if not (folder / FOLDS_FILE).exists():
        return []
    state = load_file(folder / FOLDS_FILE)

    def head(fold: int, field: str) -> nn.Linear:
        key = f"{fold}.{_STORED_NAMES[field]}"
        return _linear(state[f"{key}.weight"], state[f"{key}.bias"])

    return [
        CaptionHeads(head(fold, "captions"), head(fold, "caption_embedding"))
        for fold in range(FOLDS)
    ]


@dataclass(frozen=True)
class _Targets:
    """What the heads of M photographs are fitted to."""

    shares: Tensor  # (M, W) of the captions with each word
    embeddings: Tensor  # (M, D) mean token embedding of the captions
    word_length: Tensor  # mean length of a word's embedding, a scalar


def _word_shares(photos: Sequence[Photo], words: Words) -> Tensor:
    """(M, W) share of each photograph's captions that have the word."""
    column = {word: place for place, word in enumerate(words.captions)}
    shares = torch.zeros(len(photos), len(column))
    for row, photo in enumerate(photos):
        for text in photo.captions:
            for word in set(caption_tokens(text)) & column.keys():
                shares[row, column[word]] += 1 / len(photo.captions)
    return shares


def _mean_caption(photo: Photo, embed: Callable[[str], Tensor]) -> Tensor:
    return torch.stack([embed(text) for text in photo.captions]).mean(0)


def _ridge(
    photos: Tensor,
    blanks: Tensor,
    targets: _Targets,
) -> CaptionHeads:
    """Heads from (M, C) inputs of photographs and (blanks, C) of scenes.

    Scenes are to have the photographs' mean, which says of no picture more than of another.
    """
    mean = photos.mean(0)
    std = photos.std(0) + 0.05  # some features are nearly always 0
    scaled = (torch.cat([photos, blanks]) - mean) / std
    weights = torch.ones(len(scaled), 1)
    weights[len(photos) :] = _BLANK_WEIGHT

    def slopes(target: Tensor, penalty: float) -> Tensor:
        # A centred target of 0 is the photographs' mean.
        blank = torch.zeros(len(blanks), target.shape[1])
        centred = torch.cat([target - target.mean(0), blank])
        gram = scaled.T @ (weights * scaled) + penalty * torch.eye(scaled.shape[1])
        slope: Tensor = torch.linalg.solve(gram, scaled.T @ (weights * centred))
        return slope

    def head(slope: Tensor, average: Tensor) -> nn.Linear:
        return _linear((slope / std[:, None]).T, average - (mean / std) @ slope)

    embedding = slopes(targets.embeddings, _EMBEDDING_PENALTY)
    # The mean of many words is much shorter than a word, and the language model would hardly see
    # it: it is made as long as a word is on average.
    predicted_length = (scaled[: len(photos)] @ embedding).norm(dim=-1).mean()
    embedding *= targets.word_length / predicted_length
    return CaptionHeads(
        head(slopes(targets.shares, _SHARES_PENALTY), targets.shares.mean(0)),
        head(embedding, torch.zeros(embedding.shape[1])),
    )


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    head = nn.Linear(weight.shape[1], weight.shape[0])
    head.load_state_dict({"weight": weight.float(), "bias": bias.float()})
    head.requires_grad_(False)
    return head
