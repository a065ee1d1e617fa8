"""Projector of the default model: what the vision tower saw, said in words of the language model.

A linear head gives a picture (or a cell of it) a distribution over words; the distribution times the words' token
embeddings is a visual token that the language model reads without any training.
Knows nothing of passes. Shapes: B batch, N cells, V visual tokens, K summary tokens, D hidden size, W words of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compressor.vision_tower import EfficientNetLiteConfig

FRAME_COUNT = 5  # before cells, caption words, colour and number, things, name
NAME_TOKENS = 3  # first, second and last sub-token of a name
THING_TOKENS = 4  # the things that fill most cells, most first
CAPTION_TOKENS = 6  # the likeliest words of a caption, likeliest first
NAME_SHARPNESS = 2.0  # names that are mixed less read better: 71 % of unseen classes named instead of 56 %
WORD_TOKENS = NAME_TOKENS + THING_TOKENS + 2 + CAPTION_TOKENS  # beside the cells; 2: background colour and number
SEED_COUNT = 8


@dataclass(frozen=True)
class Sight:
    """What the heads make of a batch of pictures: probabilities, and the tokens they mix."""

    names: Tensor  # (B, W) of the main thing, over classes and things
    cells: Tensor  # (B, N, W + 1) likewise for each cell; the last is "nothing"
    background: Tensor  # (B, W) over colours
    count: Tensor  # (B, W) over numbers
    captions: Tensor  # (B, W) expected share of captions with each word
    visual_tokens: Tensor  # (B, V, D)
    seeds: Tensor  # (B, SEED_COUNT, D)


class CountHead(nn.Module):
    """How many things there are: convolves over the quarters of cells, sums up over the picture, decides."""

    def __init__(self, fine_size: int, words: int, width: int = 64) -> None:
        super().__init__()
        channels = fine_size // 4
        self.norm = nn.BatchNorm2d(channels)
        self.enter = nn.Conv2d(channels, width, 1)
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.decide = nn.Sequential(nn.Linear(2 * width, width), nn.GELU(), nn.Dropout(0.1), nn.Linear(width, words))

    def forward(self, quarters: Tensor) -> Tensor:
        """(B, 4·C, G, G) fine features of the quarters of cells → (B, W) logits."""
        x = nn.functional.gelu(self.enter(self.norm(nn.functional.pixel_shuffle(quarters, 2))))
        x = x + nn.functional.gelu(self.first(x))
        x = x + nn.functional.gelu(self.second(x))
        return self.decide(torch.cat([x.mean((2, 3)), x.amax((2, 3))], dim=1))


class WordProjector(nn.Module):
    """(B, N, C) cells of `EfficientNetLiteModel` → words, framed so that they read as sentences.

    Visual tokens: one for each cell (what is there and its colour), caption words (6), background colour and number,
    things (4), the main thing's name (3): what matters most stands nearest to the summary. Before each of the five
    kinds stands a frame of plain words; without frames an untrained language model makes nothing of the rest.
    Buffers hold the token embeddings of words and are filled in by `set_words`.
    """

    def __init__(
        self,
        vision: EfficientNetLiteConfig,
        things: int,
        colours: int,
        counts: int,
        captions: int,
        frame_sizes: Sequence[int],
        D: int,
    ) -> None:
        super().__init__()
        self.vision = vision
        self.cells_kept = 0  # a training step may look at so many cells only, drawn at random; 0 keeps all
        names = vision.num_classes + things
        self.classes = nn.Linear(vision.feature_size, vision.num_classes)  # the vision tower's own classifier
        self.things = nn.Linear(vision.feature_size, things)
        self.cell_things = nn.Linear(vision.feature_size, things + 1)
        self.colours = nn.Sequential(nn.Linear(3, 64), nn.GELU(), nn.Linear(64, colours))
        self.counts = CountHead(vision.fine_size, counts)
        self.captions = nn.Linear(vision.feature_size, captions)
        self.register_buffer("name_words", torch.zeros(names, NAME_TOKENS, D))
        self.register_buffer("mean_name_words", torch.zeros(names + 1, D))  # the last is "nothing"
        self.register_buffer("colour_words", torch.zeros(colours, D))
        self.register_buffer("count_words", torch.zeros(counts, D))
        self.register_buffer("caption_words", torch.zeros(captions, D))
        self.register_buffer("frame_words", torch.zeros(sum(frame_sizes), D))
        self.frame_sizes = list(frame_sizes)  # tokens of each of the five frames

    def set_words(
        self, names: Tensor, mean_names: Tensor, colours: Tensor, counts: Tensor, captions: Tensor, frames: Tensor
    ) -> None:
        """Fills in the token embeddings of all words."""
        for buffer, value in (
            (self.name_words, names),
            (self.mean_name_words, mean_names),
            (self.colour_words, colours),
            (self.count_words, counts),
            (self.caption_words, captions),
            (self.frame_words, frames),
        ):
            buffer.copy_(value)

    def forward(self, cells: Tensor) -> Sight:
        """(B, N, C) → words of the whole picture, its cells and its summary's seeds."""
        sizes = [self.vision.feature_size, self.vision.fine_size, 3]
        features, quarters, colours = cells.float().split(sizes, dim=-1)
        pooled = features.mean(1)
        names = (NAME_SHARPNESS * torch.cat([self.classes(pooled), self.things(pooled)], dim=-1)).softmax(-1)
        cell_names = torch.cat([self.classes(features), self.cell_things(features)], dim=-1).softmax(-1)
        background = self.background_logits(colours).softmax(-1)
        count = self.count_logits(quarters).softmax(-1)
        captions = self.caption_shares(pooled)

        name_tokens = torch.einsum("bw,wtd->btd", names, self.name_words)
        colour_tokens = torch.stack([background @ self.colour_words, count @ self.count_words], dim=1)
        things = self._largest(cell_names[..., :-1].mean(1), self.mean_name_words[:-1], THING_TOKENS)
        words = self._largest(captions, self.caption_words, CAPTION_TOKENS)
        cell_tokens = 0.5 * (cell_names @ self.mean_name_words + self.colours(colours).softmax(-1) @ self.colour_words)
        if self.cells_kept:
            cell_tokens = cell_tokens[:, torch.randperm(cell_tokens.shape[1])[: self.cells_kept].sort().values]
        frames = [frame.expand(len(cells), -1, -1) for frame in self.frame_words.split(self.frame_sizes)]
        kinds = (cell_tokens, words, colour_tokens, things, name_tokens)
        visual = torch.cat([part for pair in zip(frames, kinds, strict=True) for part in pair], dim=1)
        seeds = torch.cat([name_tokens, things[:, 1:3], colour_tokens.flip(1), words[:, :1]], dim=1)
        return Sight(names, cell_names, background, count, captions, visual, seeds)

    @property
    def extra_tokens(self) -> int:
        """Visual tokens beside those of cells."""
        return WORD_TOKENS + sum(self.frame_sizes)

    def background_logits(self, colours: Tensor) -> Tensor:
        """(B, N, 3) mean colours of cells → (B, W): the colour words' mean probability along the border, as logits."""
        grid = self.colours(self._grid(colours).permute(0, 2, 3, 1)).softmax(-1)
        border = torch.cat([grid[:, 0], grid[:, -1], grid[:, :, 0], grid[:, :, -1]], dim=1)
        return torch.log(border.mean(1) + 1e-4)

    def count_logits(self, quarters: Tensor) -> Tensor:
        """(B, N, F) fine features → (B, W)."""
        return self.counts(self._grid(quarters))

    def caption_shares(self, pooled: Tensor) -> Tensor:
        """(B, feature_size) mean features → (B, W) in 0..1; the square root evens out rare strong features."""
        return self.captions(pooled.clamp(min=0).sqrt()).clamp(0, 1)

    def _grid(self, cells: Tensor) -> Tensor:
        side = self.vision.grid_size
        return cells.transpose(1, 2).unflatten(2, (side, side))

    @staticmethod
    def _largest(probabilities: Tensor, words: Tensor, count: int) -> Tensor:
        """(B, W) → (B, count, D) embeddings of the likeliest words, likeliest first, fainter where less certain."""
        top = probabilities.topk(count, dim=-1)
        certainty = (top.values / top.values[:, :1].clamp(min=1e-6)).clamp(min=0.2).unsqueeze(-1)
        return words[top.indices] * certainty
