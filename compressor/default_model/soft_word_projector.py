"""Projector of the default model's base: soft words, and what training adds to them.

The tower's classifier names the picture and each of its cells. Its probabilities times the names'
token embeddings are *soft words*, which the language model reads before any training. To them the
projector adds a learned part from the tower's features, zero at the start.
Shapes: B pictures, N cells, C channels of a cell, W names, D hidden size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compressor.default_model.vision_tower import EfficientNetLiteConfig

NAME_TOKENS = 4  # first, second, third and last sub-token of a name
# A mixture of names reads worse than one name: sharpened so, the untrained language model names
# 71 % of the held-out classes instead of 56 %.
_NAME_SHARPNESS = 2.0
# A part of a picture that resembles several names should show all of them.
_CELL_SHARPNESS = 0.5


class SoftWordProjector(nn.Module):
    """(B, N, C) cells of `EfficientNetLiteModel` → (B, N + 4, D) visual tokens.

    A token for each cell, in row order, then the picture's name: what stands nearest to the
    question is read best. Buffers hold the tower's classifier and the names' token embeddings:
    training never changes what the soft words say.
    """

    class_weight: Tensor
    class_bias: Tensor
    name_words: Tensor
    mean_name_words: Tensor

    def __init__(self, vision: EfficientNetLiteConfig, D: int, width: int) -> None:
        super().__init__()
        self.vision = vision
        W = vision.num_classes
        self.register_buffer("class_weight", torch.zeros(W, vision.feature_size))
        self.register_buffer("class_bias", torch.zeros(W))
        self.register_buffer("name_words", torch.zeros(W, NAME_TOKENS, D))
        self.register_buffer("mean_name_words", torch.zeros(W, D))
        # Features of the last block and of an earlier one differ in scale; colours are in -1..1.
        self.feature_norm = nn.LayerNorm(vision.feature_size)
        self.fine_norm = nn.LayerNorm(vision.fine_size)
        self.picture_norm = nn.LayerNorm(vision.feature_size)
        self.cell = _Learned(vision.hidden_size, width, D)
        self.picture = _Learned(vision.feature_size, width // 2, NAME_TOKENS * D)
        self.position = nn.Parameter(torch.zeros(vision.grid_size**2, D))

    def reset(self) -> None:
        """Has visual tokens be the soft words alone, as before any training."""
        self.cell.reset()
        self.picture.reset()
        nn.init.zeros_(self.position)

    def set_words(
        self,
        class_weight: Tensor,
        class_bias: Tensor,
        name_words: Tensor,
        mean_name_words: Tensor,
    ) -> None:
        """Fills in the tower's classifier and the token embeddings of its names."""
        self.class_weight.copy_(class_weight)
        self.class_bias.copy_(class_bias)
        self.name_words.copy_(name_words)
        self.mean_name_words.copy_(mean_name_words)

    def forward(self, cells: Tensor) -> Tensor:
        """(B, N, C) → (B, N + 4, D)."""
        vision = self.vision
        sizes = [vision.feature_size, vision.fine_size, vision.colour_size]
        features, fine_features, colours = cells.float().split(sizes, dim=-1)
        pooled = features.mean(1)
        seen = torch.cat(
            [self.feature_norm(features), self.fine_norm(fine_features), colours],
            dim=-1,
        )
        learned_cells = self.cell(seen).float() + self.position
        # Square-rooted, so that rare strong features count for less.
        powers = self.picture_norm(pooled.clamp(min=0).sqrt())
        learned_picture = self.picture(powers).float().unflatten(-1, (NAME_TOKENS, -1))
        return torch.cat(
            [
                self._cell_words(features) + learned_cells,
                self._picture_words(pooled) + learned_picture,
            ],
            dim=1,
        )

    @torch.no_grad()
    def name_probabilities(self, pooled: Tensor, sharpness: float = 1.0) -> Tensor:
        """(…, feature size) mean features of a picture or a part → (…, W) of the tower's names."""
        # In float32 also under autocast: a softmax over a thousand names loses its tail.
        with torch.autocast(pooled.device.type, enabled=False):
            logits = nn.functional.linear(
                pooled.float(), self.class_weight, self.class_bias
            )
            return (sharpness * logits).softmax(-1)

    def _cell_words(self, features: Tensor) -> Tensor:
        names = self.name_probabilities(features, _CELL_SHARPNESS)
        return names @ self.mean_name_words

    def _picture_words(self, pooled: Tensor) -> Tensor:
        names = self.name_probabilities(pooled, _NAME_SHARPNESS)
        return torch.einsum("bw,wtd->btd", names, self.name_words)


class _Learned(nn.Module):
    """A layer of GELUs between two linear maps; the second is zero at the start."""

    def __init__(self, inputs: int, width: int, outputs: int) -> None:
        super().__init__()
        self.enter = nn.Linear(inputs, width)
        self.leave = nn.Linear(width, outputs)
        self.reset()

    def reset(self) -> None:
        """Has the layer add nothing."""
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.leave(nn.functional.gelu(self.enter(x)))
        return result
