"""Projector of the default model: what the vision tower saw, said in words of the language model.

A linear head gives a picture (or a part of it) a distribution over words; the distribution times
the words' token embeddings is a visual token that the language model reads without any training.
Knows nothing of passes. Shapes: B batch, N cells, O things, V visual tokens, D hidden size, W words
of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compressor.default_model.object_head import OBJECTS, Found, ObjectHead, find, inside
from compressor.default_model.vision_tower import EfficientNetLiteConfig

FRAME_COUNT = 5  # before cells, caption words, colour and number, things, name
NAME_TOKENS = 4  # first, second, third and last sub-token of a name
CAPTION_TOKENS = 6  # the likeliest words of a caption, likeliest first
PLACES = 4  # left, right, top, bottom
POOLED_SIDE = 8  # visual tokens of cells stand for a grid of this side
NAME_SHARPNESS = (
    2.0  # names that are mixed less read better: 71 % of unseen classes named instead of 56 %
)
PART_SHARPNESS = 0.5  # what is only like a known thing should show all that it is like
WORD_TOKENS = (
    NAME_TOKENS + OBJECTS + 2 + CAPTION_TOKENS + 1
)  # beside cells; 2: background colour and number; 1: sense
SEED_COUNT = 8
_SURE_SHARE = 0.5  # of the captions: a word to be expected in as many is shown at full strength
_SEEDED_THINGS = SEED_COUNT - NAME_TOKENS - 1  # the last seed holds what is left


@dataclass(frozen=True)
class CaptionHeads:
    """Linear heads from evened mean features (C) to what captions say."""

    captions: nn.Linear  # to (W) expected share of captions with each word
    sense: nn.Linear  # to (D) mean token embedding of the captions to be expected


@dataclass(frozen=True)
class Sight:
    """What the heads make of a batch of pictures: probabilities, and the tokens they mix."""

    names: Tensor  # (B, W) of the main thing, over classes and things
    found: Found
    found_names: Tensor  # (B, O, W) of each thing that was found
    background: Tensor  # (B, W) over colours
    count: Tensor  # (B, W) over numbers
    captions: Tensor  # (B, W) expected share of captions with each word
    sense: Tensor  # (B, D) mean token embedding of the captions to be expected
    visual_tokens: Tensor  # (B, V, D)
    seeds: Tensor  # (B, SEED_COUNT, D)


class CountHead(nn.Module):
    """How many things there are: convolves over the quarters of cells, sums up over the picture,
    decides.
    """

    def __init__(self, fine_size: int, words: int, width: int = 64) -> None:
        super().__init__()
        channels = fine_size // 4
        self.norm = nn.BatchNorm2d(channels)
        self.enter = nn.Conv2d(channels, width, 1)
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.decide = nn.Sequential(
            nn.Linear(2 * width, width), nn.GELU(), nn.Dropout(0.1), nn.Linear(width, words)
        )

    def forward(self, quarters: Tensor) -> Tensor:
        """(B, 4·C, G, G) fine features of the quarters of cells → (B, W) logits."""
        x = nn.functional.gelu(self.enter(self.norm(nn.functional.pixel_shuffle(quarters, 2))))
        x = x + nn.functional.gelu(self.first(x))
        x = x + nn.functional.gelu(self.second(x))
        return self.decide(torch.cat([x.mean((2, 3)), x.amax((2, 3))], dim=1))


class WordProjector(nn.Module):
    """(B, N, C) cells of `EfficientNetLiteModel` → words, framed so that they read as sentences.

    Visual tokens: cells (what is there and its colour, 8×8), caption words (6) and all words of a
    caption in one, background colour and number, things (4, each with its place and colour), the
    main thing's name (4): what matters most stands nearest to the summary. Before each of the five
    kinds stands a frame of plain words; without frames an untrained language model makes nothing of
    the rest. Buffers hold the token embeddings of words and are filled in by `set_words`.
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
        self.cells_kept = (
            0  # a training step may look at so many cells only, drawn at random; 0 keeps all
        )
        self.hidden_names: Tensor | None = (
            None  # (B, W) true where a training step hides a name from the heads
        )
        self.caption_heads: list[CaptionHeads] | None = (
            None  # of each of B pictures, where training gives it its own
        )
        names = vision.num_classes + things
        self.classes = nn.Linear(
            vision.feature_size, vision.num_classes
        )  # the vision tower's own classifier
        self.things = nn.Linear(vision.feature_size, things)
        self.colours = nn.Sequential(nn.Linear(3, 64), nn.GELU(), nn.Linear(64, colours))
        self.counts = CountHead(vision.fine_size, counts)
        self.objects = ObjectHead(vision, colours)
        self.captions = nn.Linear(vision.feature_size, captions)
        self.sense = nn.Linear(vision.feature_size, D)
        self.register_buffer("name_words", torch.zeros(names, NAME_TOKENS, D))
        self.register_buffer("mean_name_words", torch.zeros(names, D))
        self.register_buffer("colour_words", torch.zeros(colours, D))
        self.register_buffer("count_words", torch.zeros(counts, D))
        self.register_buffer("caption_words", torch.zeros(captions, D))
        self.register_buffer("place_words", torch.zeros(PLACES, D))
        self.register_buffer("frame_words", torch.zeros(sum(frame_sizes), D))
        self.frame_sizes = list(frame_sizes)  # tokens of each of the five frames

    def set_words(
        self,
        names: Tensor,
        mean_names: Tensor,
        colours: Tensor,
        counts: Tensor,
        captions: Tensor,
        places: Tensor,
        frames: Tensor,
    ) -> None:
        """Fills in the token embeddings of all words."""
        for buffer, value in (
            (self.name_words, names),
            (self.mean_name_words, mean_names),
            (self.colour_words, colours),
            (self.count_words, counts),
            (self.caption_words, captions),
            (self.place_words, places),
            (self.frame_words, frames),
        ):
            buffer.copy_(value)

    @property
    def cell_tokens(self) -> int:
        """Visual tokens of cells when all are kept."""
        return min(POOLED_SIDE, self.vision.grid_size) ** 2

    @property
    def extra_tokens(self) -> int:
        """Visual tokens beside those of cells."""
        return WORD_TOKENS + sum(self.frame_sizes)

    def forward(self, cells: Tensor) -> Sight:
        """(B, N, C) → words of the whole picture, its parts and its summary's seeds."""
        features, quarters, colours = self.split(cells)
        pooled = features.mean((2, 3))
        found = find(self.objects(features, quarters, colours))
        found_names = self.found_names(features, found.boxes)
        # A picture of cut-out things is named after the largest of them, a photograph as a whole.
        largest = (found.certainty * found.boxes[..., 2:].prod(-1)).argmax(1)
        there = found.certainty.amax(1, keepdim=True)
        rows = torch.arange(len(cells), device=cells.device)
        whole = (NAME_SHARPNESS * self.class_logits(pooled)).softmax(-1)
        named = found_names[rows, largest] ** (NAME_SHARPNESS / PART_SHARPNESS)
        names = torch.lerp(whole, named / named.sum(-1, keepdim=True), there)
        background = self.background_logits(colours).softmax(-1)
        count = self.counts(quarters).softmax(-1)
        captions, sense = self.captions_of(pooled)

        name_tokens = torch.einsum("bw,wtd->btd", names, self.name_words)
        object_tokens = self._object_tokens(found, found_names)
        background_token, count_token = background @ self.colour_words, count @ self.count_words
        words = self._largest(captions, self.caption_words, CAPTION_TOKENS)
        words = torch.cat([words, sense.unsqueeze(1)], dim=1)
        colour_tokens = torch.stack([background_token, count_token], dim=1)
        frames = [
            frame.expand(len(cells), -1, -1) for frame in self.frame_words.split(self.frame_sizes)
        ]
        kinds = (
            self._cell_tokens(features, colours),
            words,
            colour_tokens,
            object_tokens,
            name_tokens,
        )
        visual = torch.cat(
            [part for pair in zip(frames, kinds, strict=True) for part in pair], dim=1
        )
        things = object_tokens[:, :_SEEDED_THINGS] + self._in_place_of_things(found, words)
        rest = torch.lerp(sense, background_token + count_token, there)
        seeds = torch.cat([name_tokens, things, rest.unsqueeze(1)], dim=1)
        return Sight(names, found, found_names, background, count, captions, sense, visual, seeds)

    def split(self, cells: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, N, C) → features, fine features of quarters and colours of quarters, each (B, C, G, G)."""
        side = self.vision.grid_size
        grid = cells.float().transpose(1, 2).unflatten(2, (side, side))
        sizes = [self.vision.feature_size, self.vision.fine_size, self.vision.colour_size]
        features, quarters, colours = grid.split(sizes, dim=1)
        return features, quarters, colours

    def class_logits(self, pooled: Tensor) -> Tensor:
        """(…, feature_size) → (…, W) over classes and things, as the tower's own classifier says: no thing."""
        logits = self.classes(pooled)
        never = logits.new_full((*logits.shape[:-1], self.things.out_features), -1e4)
        return self._without_hidden(torch.cat([logits, never], dim=-1))

    def name_logits(self, pooled: Tensor) -> Tensor:
        """(…, feature_size) mean features of a part of a picture → (…, W) over classes and things."""
        return self._without_hidden(torch.cat([self.classes(pooled), self.things(pooled)], dim=-1))

    def found_names(self, features: Tensor, boxes: Tensor) -> Tensor:
        """(B, C, G, G) features, (B, O, 4) boxes → (B, O, W) probabilities of what each box holds."""
        pooled = inside(boxes, self.vision.grid_size) @ features.flatten(2).transpose(1, 2)
        return (PART_SHARPNESS * self.name_logits(pooled)).softmax(-1)

    def background_logits(self, colours: Tensor) -> Tensor:
        """(B, 12, G, G) colours of quarters → (B, W): the colour words' mean probability on the
        border, as logits.
        """
        grid = self.colours(nn.functional.pixel_shuffle(colours, 2).permute(0, 2, 3, 1)).softmax(-1)
        border = torch.cat([grid[:, 0], grid[:, -1], grid[:, :, 0], grid[:, :, -1]], dim=1)
        return torch.log(border.mean(1) + 1e-4)

    def captions_of(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """(B, feature_size) mean features → (B, W) shares in 0..1, (B, D) mean token embedding."""
        inputs = evened(pooled)
        if self.caption_heads is None:
            return self.captions(inputs).clamp(0, 1), self.sense(inputs)
        pairs = list(zip(self.caption_heads, inputs, strict=True))
        shares = torch.stack([heads.captions(each) for heads, each in pairs])
        return shares.clamp(0, 1), torch.stack([heads.sense(each) for heads, each in pairs])

    def _without_hidden(self, logits: Tensor) -> Tensor:
        """(B, …, W) logits of names, those that are hidden out of the question."""
        if self.hidden_names is None:
            return logits
        return logits.masked_fill(
            self.hidden_names.unflatten(1, (*(1,) * (logits.ndim - 2), -1)), -1e4
        )

    def _object_tokens(self, found: Found, names: Tensor) -> Tensor:
        """(B, O, D): name, place and colour of each thing laid over one another, fainter where less
        certain.
        """
        places = self._across(2 * found.boxes[..., 0] - 1) + self._down(2 * found.boxes[..., 1] - 1)
        tokens = names @ self.mean_name_words + places + 0.5 * (found.colours @ self.colour_words)
        return found.certainty.unsqueeze(-1) * tokens

    def _across(self, offset: Tensor) -> Tensor:
        """(…) from -1, left, to 1, right → (…, D); most of the way is gone at half of it."""
        return torch.tanh(2.5 * offset).unsqueeze(-1) * (self.place_words[1] - self.place_words[0])

    def _down(self, offset: Tensor) -> Tensor:
        """(…) from -1, top, to 1, bottom → (…, D)."""
        return torch.tanh(2.5 * offset).unsqueeze(-1) * (self.place_words[3] - self.place_words[2])

    def _in_place_of_things(self, found: Found, words: Tensor) -> Tensor:
        """(B, 3, D): what seeds hold where there is no thing for them.

        Without any thing, words of a caption. Beside one, where it is; beside two, which of them is
        higher (that the first lies further left is in their order): words that stand alone are read
        sooner than words laid over others.
        """
        one, two, three = found.certainty[:, :_SEEDED_THINGS].unsqueeze(-1).unbind(1)
        there = found.certainty.amax(1).unsqueeze(-1)
        offset = 2 * found.boxes[..., :2] - 1
        higher = self._down(found.boxes[:, 0, 1] - found.boxes[:, 1, 1])
        second = torch.lerp(words[:, 1], self._across(offset[:, 0, 0]), there)
        third = torch.lerp(words[:, 2], torch.lerp(self._down(offset[:, 0, 1]), higher, two), there)
        return torch.stack(
            [(1 - one) * words[:, 0], (1 - two) * second, (1 - three) * third], dim=1
        )

    def _cell_tokens(self, features: Tensor, colours: Tensor) -> Tensor:
        """(B, cells, D) what each part of the picture shows and its colour."""
        side = min(POOLED_SIDE, self.vision.grid_size)
        pooled = nn.functional.adaptive_avg_pool2d(features, side).flatten(2).transpose(1, 2)
        shades = nn.functional.adaptive_avg_pool2d(nn.functional.pixel_shuffle(colours, 2), side)
        seen = self.name_logits(pooled).softmax(-1) @ self.mean_name_words
        shown = self.colours(shades.flatten(2).transpose(1, 2)).softmax(-1) @ self.colour_words
        tokens = 0.5 * (seen + shown)
        if self.cells_kept:
            tokens = tokens[:, torch.randperm(tokens.shape[1])[: self.cells_kept].sort().values]
        return tokens

    @staticmethod
    def _largest(probabilities: Tensor, words: Tensor, count: int) -> Tensor:
        """(B, W) → (B, count, D) embeddings of the likeliest words, likeliest first, fainter where
        less certain.
        """
        top = probabilities.topk(count, dim=-1)
        certainty = (top.values / _SURE_SHARE).clamp(0.2, 1).unsqueeze(-1)
        return words[top.indices] * certainty


def evened(pooled: Tensor) -> Tensor:
    """(…, feature_size) mean features with rare strong ones evened out."""
    return pooled.clamp(min=0).sqrt()
