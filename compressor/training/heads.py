"""First stage: the projector's heads, trained on the frozen vision tower's cells in a few minutes.

Knows nothing of the language model. A fifth of the training names is kept from the heads while the adapters train
(`without_names`), so that the language model also meets things that no head can name; the shipped heads know them all.
Shapes: M pictures, N cells, F features of a cell, W words of a head.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compressor.training.data.photos import Photo
from compressor.training.data.scenes import Scene
from compressor.training.targets import caption_tokens
from compressor.word_projector import WordProjector
from compressor.words import Words

FEWEST_MENTIONS = 16  # photographs (a mirrored one counts) whose captions must have a word for it to be in the list
# Words that say nothing of a picture by themselves.
_EMPTY_WORDS = frozenset(
    {
        "a", "an", "the", "in", "on", "of", "is", "are", "with", "at", "to", "and", "it", "its", "his", "her",
        "their", "up", "from", "by", "while", "as", "for", "into", "through", "out", "over", "off", "near",
        "down", "that", "one", "another", "some", "other", "who", "has", "have", "s", "being", "there", "him",
        "each", "something",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Seen:
    """What the frozen vision tower made of training pictures."""

    scenes: Sequence[Scene]
    scene_cells: Tensor  # (M, N, C) float16
    photos: Sequence[Photo]
    photo_cells: Tensor  # (M, N, C) float16


def caption_words(photos: Sequence[Photo]) -> tuple[str, ...]:
    """Frequent words of the training captions, most frequent first."""
    mentions: Counter[str] = Counter()
    for photo in photos:
        mentions.update({word for text in photo.captions for word in caption_tokens(text)} - _EMPTY_WORDS)
    return tuple(word for word, count in mentions.most_common() if count >= FEWEST_MENTIONS)


def kept_from_heads(name: str) -> bool:
    """Whether a training name is one of the fifth that heads do not learn while the adapters train."""
    return 20 <= int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") % 100 < 40


def train_heads(
    projector: WordProjector, words: Words, seen: Seen, without_names: bool, seed: int = 1
) -> Iterator[str]:
    """Trains all heads but the vision tower's own classifier; yields a line of progress after each."""
    torch.manual_seed(seed)
    for parameter in projector.parameters():
        parameter.requires_grad_(False)
    hidden = {name for name in words.things if without_names and kept_from_heads(name)}
    yield _fit_captions(projector, words, seen)
    yield _fit_names(projector, words, seen, hidden)
    yield _fit_cells(projector, words, seen, hidden)
    yield _fit_colours(projector, words, seen)
    yield _fit_counts(projector, seen)
    with torch.no_grad():
        rows = [row for row, name in enumerate(words.things) if name in hidden]
        for head in (projector.things, projector.cell_things):
            head.weight[rows], head.bias[rows] = 0, -30.0


def _features(projector: WordProjector, cells: Tensor) -> Tensor:
    return cells[..., : projector.vision.feature_size].float()


def _pooled(projector: WordProjector, cells: Tensor) -> Tensor:
    return torch.cat([_features(projector, part).mean(1) for part in cells.split(256)])


def _fit_captions(projector: WordProjector, words: Words, seen: Seen, ridge: float = 3000.0, blanks: int = 400) -> str:
    """Ridge regression of each word's share of the captions; some scenes teach it to keep quiet on drawings."""
    rows = [row for row, photo in enumerate(seen.photos) if photo.captions]
    column = {word: place for place, word in enumerate(words.captions)}
    shares = torch.zeros(len(rows) + blanks, len(column))
    for place, row in enumerate(rows):
        photo = seen.photos[row]
        for text in photo.captions:
            for word in {word for word in caption_tokens(text) if word in column}:
                shares[place, column[word]] += 1 / len(photo.captions)
    pooled = torch.cat([_pooled(projector, seen.photo_cells[rows]), _pooled(projector, seen.scene_cells[:blanks])])
    inputs = pooled.clamp(min=0).sqrt()
    mean, deviation = inputs[: len(rows)].mean(0), inputs[: len(rows)].std(0) + 0.05
    weights = torch.ones(len(inputs), 1)
    weights[len(rows) :] = 0.3
    scaled, average = (inputs - mean) / deviation, shares[: len(rows)].mean(0)
    gram = scaled.T @ (weights * scaled) + ridge * torch.eye(scaled.shape[1])
    solution = torch.linalg.solve(gram, scaled.T @ (weights * (shares - average)))
    with torch.no_grad():
        projector.captions.weight.copy_((solution / deviation[:, None]).T)
        projector.captions.bias.copy_(average - (mean / deviation) @ solution)
    return f"captions: {len(column)} words from {len(rows)} photographs"


def _fit_names(projector: WordProjector, words: Words, seen: Seen, hidden: AbstractSet[str], steps: int = 1500) -> str:
    """The main thing, by share of area; rows of classes stay as they are, photographs keep things from winning."""
    things = {name: len(words.classes) + place for place, name in enumerate(words.things)}
    classes = {name: place for place, name in enumerate(words.classes)}
    kept = [row for row, scene in enumerate(seen.scenes) if not hidden & set(scene.counts)]
    labelled = [row for row, photo in enumerate(seen.photos) if photo.label]
    shares = torch.zeros(len(kept) + len(labelled), len(things) + len(classes))
    for place, row in enumerate(kept):
        for thing in seen.scenes[row].objects:
            left, top, right, bottom = thing.box
            shares[place, things[thing.name]] += (right - left) * (bottom - top)
    for place, row in enumerate(labelled, start=len(kept)):
        shares[place, classes[str(seen.photos[row].label)]] = 1
    shares /= shares.sum(1, keepdim=True)
    inputs = torch.cat([_pooled(projector, seen.scene_cells[kept]), _pooled(projector, seen.photo_cells[labelled])])
    nn.init.normal_(projector.things.weight, std=0.01)
    optimiser = _optimiser(projector.things, 3e-3, 0.02)
    for _ in range(steps):
        chosen = torch.randint(len(inputs), (256,))
        dropped = nn.functional.dropout(inputs[chosen], 0.2)
        logits = torch.cat([projector.classes(dropped), projector.things(dropped)], dim=-1)
        _descend(optimiser, -(shares[chosen] * logits.log_softmax(-1)).sum(-1).mean())
    projector.things.requires_grad_(False)
    return f"names: {len(things)} things from {len(kept)} scenes"


def _fit_cells(projector: WordProjector, words: Words, seen: Seen, hidden: AbstractSet[str], steps: int = 500) -> str:
    """What each cell shows; cells without a thing are thinned out, cells of photographs carry their label."""
    side, first = projector.vision.grid_size, len(words.classes)
    things = {name: first + place for place, name in enumerate(words.things)}
    nothing = first + len(things)
    classes = {name: place for place, name in enumerate(words.classes)}
    kept = [row for row, scene in enumerate(seen.scenes) if not hidden & set(scene.counts)]
    labels = torch.stack([cell_labels(seen.scenes[row], things, nothing, side) for row in kept])
    labelled = [row for row, photo in enumerate(seen.photos) if photo.label]
    with torch.no_grad():
        projector.cell_things.weight[:-1] = projector.things.weight
        projector.cell_things.bias[:-1] = projector.things.bias
    optimiser = _optimiser(projector.cell_things, 1e-3, 0.02)
    middle = slice(2 * side, (side - 2) * side, 3)
    for _ in range(steps):
        chosen = torch.randint(len(kept), (24,))
        inputs = _features(projector, seen.scene_cells[[kept[row] for row in chosen]]).flatten(0, 1)
        wanted = labels[chosen].flatten()
        used = torch.cat([((wanted >= 0) & (wanted < nothing)).nonzero()[:, 0], (wanted == nothing).nonzero()[::4, 0]])
        photos = [labelled[int(row)] for row in torch.randint(len(labelled), (8,))]
        of_photos = _features(projector, seen.photo_cells[photos])[:, middle]
        names = torch.tensor([classes[str(seen.photos[row].label)] for row in photos])
        inputs = torch.cat([inputs[used], of_photos.flatten(0, 1)])
        wanted = torch.cat([wanted[used], names.repeat_interleave(of_photos.shape[1])])
        weights = torch.ones(len(wanted))
        weights[len(used) :] = 0.3
        logits = torch.cat([projector.classes(inputs), projector.cell_things(inputs)], dim=-1)
        _descend(optimiser, (nn.functional.cross_entropy(logits, wanted, reduction="none") * weights).mean())
    projector.cell_things.requires_grad_(False)
    return f"cells: {len(kept)} scenes"


def cell_labels(scene: Scene, things: dict[str, int], nothing: int, side: int) -> Tensor:
    """(side²,) what each cell shows: over half covered, the thing; under a fifth, nothing; between, -100 (either)."""
    labels = torch.full((side, side), nothing)
    for thing in scene.objects:
        left, top, right, bottom = thing.box
        width = (left + right) / 2 / thing.centre[0]
        height = (top + bottom) / 2 / thing.centre[1]
        across = _covered(left / width * side, right / width * side, side)
        down = _covered(top / height * side, bottom / height * side, side)
        cover = down[:, None] * across[None, :]
        labels[(cover > 0.2) & (labels == nothing)] = -100
        labels[cover > 0.5] = things[thing.name]
    return labels.flatten()


def _covered(low: float, high: float, side: int) -> Tensor:
    """(side,) share of each unit interval that lies between low and high."""
    edges = torch.arange(side, dtype=torch.float32)
    return (torch.clamp(edges + 1, max=high) - torch.clamp(edges, min=low)).clamp(0, 1)


def _fit_colours(projector: WordProjector, words: Words, seen: Seen, steps: int = 600) -> str:
    colours = seen.scene_cells[..., -3:].float()
    wanted = torch.tensor([words.colours.index(scene.background) for scene in seen.scenes])
    optimiser = _optimiser(projector.colours, 5e-3, 0.01)
    for _ in range(steps):
        chosen = torch.randint(len(colours), (256,))
        logits = projector.background_logits(colours[chosen])
        _descend(optimiser, nn.functional.cross_entropy(logits, wanted[chosen]))
    projector.colours.requires_grad_(False)
    return f"colours: {len(seen.scenes)} scenes"


def _fit_counts(projector: WordProjector, seen: Seen, steps: int = 900, rate: float = 2e-3) -> str:
    low = projector.vision.feature_size
    wanted = torch.tensor([len(scene.objects) for scene in seen.scenes])
    optimiser = _optimiser(projector.counts, rate, 0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps)
    projector.counts.train()
    for step in range(steps):
        chosen = torch.randint(len(wanted), (64,))
        cells = seen.scene_cells[chosen, :, low : low + projector.vision.fine_size].float()
        side = projector.vision.grid_size
        grid = nn.functional.pixel_shuffle(cells.transpose(1, 2).unflatten(2, (side, side)), 2)
        mirrored = grid.flip([axis for axis, bit in ((-1, 1), (-2, 2)) if step & bit])
        logits = projector.counts(nn.functional.pixel_unshuffle(mirrored, 2))
        _descend(optimiser, nn.functional.cross_entropy(logits, wanted[chosen], label_smoothing=0.05))
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
