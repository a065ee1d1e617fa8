"""The default model's projector: turns cells of a picture into words of the language model.

A head names what it sees as a distribution over words; the distribution times the words' token
embeddings is a visual token that the language model reads without any training. Shapes: B batch, N
cells, G cells along a side, O detections, V visual tokens, D hidden size, W words of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compressor.default_model.object_head import (
    MAX_OBJECTS,
    Detections,
    ObjectHead,
    box_coverage,
    decode_detections,
)
from compressor.default_model.soft_word_projector import NAME_TOKENS
from compressor.default_model.vision_tower import EfficientNetLiteConfig

CAPTION_TOKENS = 6  # the likeliest words of a caption, likeliest first
PLACES = 4  # left, right, top, bottom
POOLED_SIDE = 8  # visual tokens of cells stand for a grid of this side
# A mixture of names reads worse than one name: sharpened so, the model names 71 % of the held-out
# classes instead of 56 %.
NAME_SHARPNESS = 2.0
# A part that resembles several known names should show all of them.
PART_SHARPNESS = 0.5
# Beside cells: the name, detections, background colour, number, caption words, caption embedding.
WORD_TOKENS = NAME_TOKENS + MAX_OBJECTS + 2 + CAPTION_TOKENS + 1
SUMMARY_INIT_COUNT = 8
# A caption word expected in this share of the captions is shown at full strength.
_FULL_STRENGTH_SHARE = 0.5
# Summary positions for detections: all but the name's, and the last, which holds the rest.
_OBJECT_POSITIONS = SUMMARY_INIT_COUNT - NAME_TOKENS - 1
# Finite: a row of nothing but minus infinities would make a softmax NaN.
_IMPOSSIBLE = -1e4  # logit of a name that must not be chosen


@dataclass(frozen=True)
class CaptionHeads:
    """Linear heads from power-normalised mean features (C) to what captions say."""

    captions: nn.Linear  # to (W) expected share of captions with each word
    caption_embedding: nn.Linear  # to (D) expected mean token embedding of the captions


@dataclass(frozen=True)
class ProjectorContext:
    """What training changes in the projector's view of a batch; serving uses the default."""

    hidden_names: Tensor | None = (
        None  # (B, W) true where a name is hidden from the heads
    )
    # Of each of B pictures, in place of the projector's own: heads fitted without it.
    caption_heads: Sequence[CaptionHeads] | None = None
    max_cells: int = 0  # visual tokens of cells, drawn at random; 0 keeps all


SERVING = ProjectorContext()


@dataclass(frozen=True)
class Description:
    """What the heads say of a picture as a whole."""

    background: Tensor  # (B, W) over colours
    count: Tensor  # (B, W) over numbers
    captions: Tensor  # (B, W) expected share of captions with each word
    caption_embedding: Tensor  # (B, D) expected mean token embedding of the captions


@dataclass(frozen=True)
class ProjectorOutput:
    """Probabilities of the heads for a batch of pictures, and the tokens that they mix."""

    names: Tensor  # (B, W) of the main object, over classes and object names
    detections: Detections
    object_names: Tensor  # (B, O, W) of each detection
    description: Description
    visual_tokens: Tensor  # (B, V, D)
    summary_init: (
        Tensor  # (B, SUMMARY_INIT_COUNT, D) where the summary tokens start from
    )


class CountHead(nn.Module):
    """The number of objects: convolves over the fine grid, sums up over the picture, decides."""

    def __init__(self, fine_size: int, words: int, width: int = 64) -> None:
        super().__init__()
        channels = fine_size // 4
        self.norm = nn.BatchNorm2d(channels)
        self.enter = nn.Conv2d(channels, width, 1)
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.decide = nn.Sequential(
            nn.Linear(2 * width, width),
            nn.GELU(),
            nn.Dropout(0.1),
            nn.Linear(width, words),
        )

    def forward(self, fine_features: Tensor) -> Tensor:
        """(B, 4·C, G, G) fine features of the quarters of cells → (B, W) logits."""
        grid = nn.functional.pixel_shuffle(fine_features, 2)
        x = nn.functional.gelu(self.enter(self.norm(grid)))
        x = x + nn.functional.gelu(self.first(x))
        x = x + nn.functional.gelu(self.second(x))
        pooled = torch.cat([x.mean((2, 3)), x.amax((2, 3))], dim=1)
        logits: Tensor = self.decide(pooled)
        return logits


class WordProjector(nn.Module):
    """(B, N, C) cells of `EfficientNetLiteModel` → words, prefixed so that they read as sentences.

    Visual tokens: cells (what is there and its colour, 8×8), caption words (6) and the caption
    embedding, background colour and number, detections (4, each with its place and colour), the
    main object's name (4): what matters most stands nearest to the summary. A prefix of plain words
    stands before each of the five groups; an untrained language model makes nothing of the tokens
    without it. Buffers hold the token embeddings of words, which `set_words` fills in.
    """

    name_words: Tensor
    mean_name_words: Tensor
    colour_words: Tensor
    count_words: Tensor
    caption_words: Tensor
    place_words: Tensor
    prefix_words: Tensor

    def __init__(
        self,
        vision: EfficientNetLiteConfig,
        object_names: int,
        colours: int,
        counts: int,
        captions: int,
        prefix_sizes: Sequence[int],
        D: int,
    ) -> None:
        super().__init__()
        self.vision = vision
        names = vision.num_classes + object_names
        self.classes = nn.Linear(
            vision.feature_size, vision.num_classes
        )  # the tower's classifier
        self.object_names = nn.Linear(vision.feature_size, object_names)
        self.colours = nn.Sequential(
            nn.Linear(3, 64),
            nn.GELU(),
            nn.Linear(64, colours),
        )
        self.counts = CountHead(vision.fine_size, counts)
        self.detector = ObjectHead(vision, colours)
        self.captions = nn.Linear(vision.feature_size, captions)
        self.caption_embedding = nn.Linear(vision.feature_size, D)
        self.register_buffer("name_words", torch.zeros(names, NAME_TOKENS, D))
        self.register_buffer("mean_name_words", torch.zeros(names, D))
        self.register_buffer("colour_words", torch.zeros(colours, D))
        self.register_buffer("count_words", torch.zeros(counts, D))
        self.register_buffer("caption_words", torch.zeros(captions, D))
        self.register_buffer("place_words", torch.zeros(PLACES, D))
        self.register_buffer("prefix_words", torch.zeros(sum(prefix_sizes), D))
        self.prefix_sizes = list(prefix_sizes)  # tokens of each of the five prefixes

    def set_words(
        self,
        names: Tensor,
        mean_names: Tensor,
        colours: Tensor,
        counts: Tensor,
        captions: Tensor,
        places: Tensor,
        prefixes: Tensor,
    ) -> None:
        """Fills in the token embeddings of all words."""
        self.name_words.copy_(names)
        self.mean_name_words.copy_(mean_names)
        self.colour_words.copy_(colours)
        self.count_words.copy_(counts)
        self.caption_words.copy_(captions)
        self.place_words.copy_(places)
        self.prefix_words.copy_(prefixes)

    @property
    def cell_tokens(self) -> int:
        """Visual tokens of cells when all are kept."""
        return min(POOLED_SIDE, self.vision.grid_size) ** 2

    @property
    def extra_tokens(self) -> int:
        """Visual tokens beside those of cells."""
        return WORD_TOKENS + sum(self.prefix_sizes)

    def forward(
        self, cells: Tensor, context: ProjectorContext = SERVING
    ) -> ProjectorOutput:
        """(B, N, C) → words of the picture and its parts, and the start of its summary tokens."""
        features, fine_features, colours = self.split(cells)
        pooled = features.mean((2, 3))
        detections, object_names = self.detect(
            features, fine_features, colours, context
        )
        names = self.name(pooled, detections, object_names, context)
        description = self.describe(pooled, fine_features, colours, context)
        visual_tokens, summary_init = self.assemble(
            self._cell_tokens(features, colours, context),
            names,
            detections,
            object_names,
            description,
        )
        return ProjectorOutput(
            names,
            detections,
            object_names,
            description,
            visual_tokens,
            summary_init,
        )

    def detect(
        self,
        features: Tensor,
        fine_features: Tensor,
        colours: Tensor,
        context: ProjectorContext,
    ) -> tuple[Detections, Tensor]:
        """Detections, and (B, O, W) probabilities of their names."""
        detections = decode_detections(self.detector(features, fine_features, colours))
        # The classifier reads mean features of the whole picture. Features averaged over a box are
        # close enough for it to name the box, so names need no detector of their own.
        coverage = box_coverage(detections.boxes, self.vision.grid_size)
        pooled = coverage @ features.flatten(2).transpose(1, 2)
        logits = self.name_logits(pooled, context)
        return detections, (PART_SHARPNESS * logits).softmax(-1)

    def name(
        self,
        pooled: Tensor,
        detections: Detections,
        object_names: Tensor,
        context: ProjectorContext,
    ) -> Tensor:
        """(B, W) probabilities of the main object's name."""
        photograph = (NAME_SHARPNESS * self.class_logits(pooled, context)).softmax(-1)
        # A scene of cut-outs takes its name from the largest of them. The detector is silent on
        # photographs, where the tower's classifier over the whole picture is the better judge; the
        # strongest detection blends the two, so that no threshold decides.
        area = detections.boxes[..., 2:].prod(-1)
        largest = (detections.score * area).argmax(1)
        rows = torch.arange(len(pooled), device=pooled.device)
        # From the sharpness of parts to that of names: probabilities to a power, renormalised.
        scene = object_names[rows, largest] ** (NAME_SHARPNESS / PART_SHARPNESS)
        scene = scene / scene.sum(-1, keepdim=True)
        return torch.lerp(photograph, scene, _any_object(detections))

    def describe(
        self,
        pooled: Tensor,
        fine_features: Tensor,
        colours: Tensor,
        context: ProjectorContext,
    ) -> Description:
        """What the heads of the whole picture say."""
        background = self.background_logits(colours).softmax(-1)
        count = self.counts(fine_features).softmax(-1)
        captions, caption_embedding = self.caption_outputs(pooled, context)
        return Description(background, count, captions, caption_embedding)

    def assemble(
        self,
        cell_tokens: Tensor,
        names: Tensor,
        detections: Detections,
        object_names: Tensor,
        description: Description,
    ) -> tuple[Tensor, Tensor]:
        """(B, V, D) visual tokens and (B, SUMMARY_INIT_COUNT, D) start of the summary tokens."""
        name_tokens = torch.einsum("bw,wtd->btd", names, self.name_words)
        object_tokens = self._object_tokens(detections, object_names)
        background_token = description.background @ self.colour_words
        count_token = description.count @ self.count_words
        caption_tokens = self._likeliest(
            description.captions,
            self.caption_words,
            CAPTION_TOKENS,
        )
        caption_embedding = description.caption_embedding.unsqueeze(1)
        caption_tokens = torch.cat([caption_tokens, caption_embedding], dim=1)
        colour_tokens = torch.stack([background_token, count_token], dim=1)

        # Attention of a small model favours what stands near: the name comes last.
        groups = (
            cell_tokens,
            caption_tokens,
            colour_tokens,
            object_tokens,
            name_tokens,
        )
        visual_parts: list[Tensor] = []
        prefixes = self.prefix_words.split(self.prefix_sizes)
        for prefix, group in zip(prefixes, groups, strict=True):
            visual_parts += [prefix.expand(len(names), -1, -1), group]

        # Summary tokens start as the answer that decoding would reach word by word: one forward
        # pass then does what eight decoding steps would.
        stand_ins = self._stand_ins(detections, caption_tokens)
        objects = object_tokens[:, :_OBJECT_POSITIONS] + stand_ins
        scene_rest = background_token + count_token
        rest = torch.lerp(
            description.caption_embedding,
            scene_rest,
            _any_object(detections),
        )
        summary_init = torch.cat([name_tokens, objects, rest.unsqueeze(1)], dim=1)
        return torch.cat(visual_parts, dim=1), summary_init

    def split(self, cells: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, N, C) → features, fine features and colours of quarters, each (B, C, G, G)."""
        side = self.vision.grid_size
        grid = cells.float().transpose(1, 2).unflatten(2, (side, side))
        sizes = [
            self.vision.feature_size,
            self.vision.fine_size,
            self.vision.colour_size,
        ]
        features, fine_features, colours = torch.split(grid, sizes, dim=1)
        return features, fine_features, colours

    def class_logits(
        self, pooled: Tensor, context: ProjectorContext = SERVING
    ) -> Tensor:
        """(…, feature_size) → (…, W): the tower's own classes; object names are impossible."""
        classes = self.classes(pooled)
        shape = (*classes.shape[:-1], self.object_names.out_features)
        impossible = classes.new_full(shape, _IMPOSSIBLE)
        return _without_hidden(torch.cat([classes, impossible], dim=-1), context)

    def name_logits(
        self, pooled: Tensor, context: ProjectorContext = SERVING
    ) -> Tensor:
        """(…, feature_size) mean features of a part of a picture → (…, W) over all names."""
        logits = torch.cat([self.classes(pooled), self.object_names(pooled)], dim=-1)
        return _without_hidden(logits, context)

    def background_logits(self, colours: Tensor) -> Tensor:
        """(B, 12, G, G) colours of quarters → (B, W) mean probability on the border, as logits."""
        shades = nn.functional.pixel_shuffle(colours, 2).permute(0, 2, 3, 1)
        grid = self.colours(shades).softmax(-1)
        # Objects seldom reach the border: held out, all background colours come out right.
        border = torch.cat(
            [grid[:, 0], grid[:, -1], grid[:, :, 0], grid[:, :, -1]], dim=1
        )
        return torch.log(border.mean(1) + 1e-4)

    def caption_outputs(
        self, pooled: Tensor, context: ProjectorContext
    ) -> tuple[Tensor, Tensor]:
        """(B, feature_size) mean features → (B, W) shares in 0..1, (B, D) mean token embedding."""
        inputs = power_normalise(pooled)
        if context.caption_heads is None:
            return self.captions(inputs).clamp(0, 1), self.caption_embedding(inputs)
        shares, embeddings = [], []
        for heads, row in zip(context.caption_heads, inputs, strict=True):
            shares.append(heads.captions(row))
            embeddings.append(heads.caption_embedding(row))
        return torch.stack(shares).clamp(0, 1), torch.stack(embeddings)

    def _object_tokens(self, detections: Detections, names: Tensor) -> Tensor:
        """(B, O, D): name, place and colour of each detection in one token, scaled by its score."""
        x, y = detections.boxes[..., 0], detections.boxes[..., 1]
        places = self._across(2 * x - 1) + self._down(2 * y - 1)
        colours = detections.colours @ self.colour_words
        tokens = names @ self.mean_name_words + places + 0.5 * colours
        return detections.score.unsqueeze(-1) * tokens

    def _across(self, offset: Tensor) -> Tensor:
        """(…) from -1, left, to 1, right → (…, D)."""
        return _saturated(offset) * (self.place_words[1] - self.place_words[0])

    def _down(self, offset: Tensor) -> Tensor:
        """(…) from -1, top, to 1, bottom → (…, D)."""
        return _saturated(offset) * (self.place_words[3] - self.place_words[2])

    def _stand_ins(self, detections: Detections, caption_tokens: Tensor) -> Tensor:
        """(B, 3, D): what the objects' summary positions hold where there is no object.

        Without any object, caption words. Beside one object, where it is; beside two, which of them
        is higher (their order already says which lies further left): the model reads a word that
        has a position to itself better than one that shares a position.
        """
        scores = detections.score[:, :_OBJECT_POSITIONS].unsqueeze(-1)
        first, second, third = scores.unbind(1)
        any_object = _any_object(detections)
        offset = 2 * detections.boxes[..., :2] - 1
        first_across = self._across(offset[:, 0, 0])
        first_down = self._down(offset[:, 0, 1])
        higher = self._down(detections.boxes[:, 0, 1] - detections.boxes[:, 1, 1])
        second_word = torch.lerp(caption_tokens[:, 1], first_across, any_object)
        third_place = torch.lerp(first_down, higher, second)
        third_word = torch.lerp(caption_tokens[:, 2], third_place, any_object)
        words = [
            (1 - first) * caption_tokens[:, 0],
            (1 - second) * second_word,
            (1 - third) * third_word,
        ]
        return torch.stack(words, dim=1)

    def _cell_tokens(
        self,
        features: Tensor,
        colours: Tensor,
        context: ProjectorContext,
    ) -> Tensor:
        """(B, cells, D) what each part of the picture shows and its colour."""
        side = min(POOLED_SIDE, self.vision.grid_size)
        pooled = (
            nn.functional.adaptive_avg_pool2d(features, side).flatten(2).transpose(1, 2)
        )
        shades = nn.functional.adaptive_avg_pool2d(
            nn.functional.pixel_shuffle(colours, 2), side
        )
        shades = shades.flatten(2).transpose(1, 2)
        named = self.name_logits(pooled, context).softmax(-1) @ self.mean_name_words
        coloured = self.colours(shades).softmax(-1) @ self.colour_words
        tokens: Tensor = 0.5 * (named + coloured)
        if not context.max_cells:
            return tokens
        # A step on a few random cells costs a fraction of one on all 64, and the passes still learn
        # to read every cell.
        order = torch.randperm(tokens.shape[1])
        kept = order[: context.max_cells].sort().values
        return tokens[:, kept]

    @staticmethod
    def _likeliest(probabilities: Tensor, words: Tensor, count: int) -> Tensor:
        """(B, W) → (B, count, D) embeddings of the likeliest words, scaled by their probability."""
        top = probabilities.topk(count, dim=-1)
        # With the likeliest caption word always at full strength, the second pass answered that
        # there is a dog in 10 of 40 training photographs without one; scaled like this, in 2.
        strength = (top.values / _FULL_STRENGTH_SHARE).clamp(0.2, 1).unsqueeze(-1)
        return words[top.indices] * strength


def power_normalise(pooled: Tensor) -> Tensor:
    """(…, feature_size) mean features, square-rooted: rare strong features count for less."""
    return pooled.clamp(min=0).sqrt()


def _any_object(detections: Detections) -> Tensor:
    """(B, 1) score of the strongest detection: near 0 on photographs, near 1 on scenes."""
    return detections.score.amax(1, keepdim=True)


def _saturated(offset: Tensor) -> Tensor:
    """(…) from -1 to 1 → (…, 1)."""
    # Most of the way is gone at half of it: "left" is left however far it is.
    return torch.tanh(2.5 * offset).unsqueeze(-1)


def _without_hidden(logits: Tensor, context: ProjectorContext) -> Tensor:
    """(B, …, W) logits of names; hidden names become impossible."""
    if context.hidden_names is None:
        return logits
    between = (1,) * (logits.ndim - 2)
    hidden = context.hidden_names.unflatten(1, (*between, -1))
    return logits.masked_fill(hidden, _IMPOSSIBLE)
