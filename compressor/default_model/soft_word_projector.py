"""Projector of the default model's base: soft words, and what training adds to them.

The naming tower's classifier names the picture and each of its cells. Its probabilities times the
names' token embeddings are *soft words*, which the language model reads before any training. To
all but the picture's name the projector adds a learned part from what CLIP saw, zero at the start.
Shapes: B pictures, N cells, F features of the naming tower, W names, D hidden size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compressor.default_model.two_towers import TwoTowersConfig, TwoTowersOutput

NAME_TOKENS = 4  # first, second, third and last sub-token of a name
GIST_TOKENS = 4  # of the whole picture
PICTURE_TOKENS = GIST_TOKENS + NAME_TOKENS
# A mixture of names reads worse than one name: sharpened so, the untrained language model names
# 71 % of the held-out classes instead of 56 %.
_NAME_SHARPNESS = 2.0
# A part of a picture that resembles several names should show all of them.
_CELL_SHARPNESS = 0.5


class SoftWordProjector(nn.Module):
    """What both towers saw → (B, N + 8, D) visual tokens.

    A token for each cell, in row order, then the picture's gist and its name: what stands nearest
    to the question is read best. Buffers hold the naming tower's classifier and the names' token
    embeddings: training never changes what the soft words say.
    """

    class_weight: Tensor
    class_bias: Tensor
    name_words: Tensor
    mean_name_words: Tensor

    def __init__(self, vision: TwoTowersConfig, D: int, width: int) -> None:
        super().__init__()
        W = vision.names.num_classes
        F = vision.names.feature_size
        self.register_buffer("class_weight", torch.zeros(W, F))
        self.register_buffer("class_bias", torch.zeros(W))
        self.register_buffer("name_words", torch.zeros(W, NAME_TOKENS, D))
        self.register_buffer("mean_name_words", torch.zeros(W, D))
        # A few channels of CLIP are a hundred times as large as the others.
        self.cell_norm = nn.LayerNorm(vision.cell_size)
        self.picture_norm = nn.LayerNorm(vision.clip.projection_dim)
        self.name_norm = nn.LayerNorm(F)
        self.cell = _Learned(vision.cell_size, width, D)
        whole = vision.clip.projection_dim + F
        self.picture = _Learned(whole, width, GIST_TOKENS * D)
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
        """Fills in the naming tower's classifier and the token embeddings of its names."""
        self.class_weight.copy_(class_weight)
        self.class_bias.copy_(class_bias)
        self.name_words.copy_(name_words)
        self.mean_name_words.copy_(mean_name_words)

    def forward(self, seen: TwoTowersOutput) -> Tensor:
        """Visual tokens (B, N + 8, D)."""
        learned_cells = self.cell(self.cell_norm(seen.cells)).float()
        # Square-rooted, so that rare strong features count for less.
        powers = seen.picture_names.clamp(min=0).sqrt()
        whole = torch.cat(
            [self.picture_norm(seen.picture), self.name_norm(powers)], dim=-1
        )
        learned_picture = self.picture(whole).float()
        gist, name = self._picture_words(seen.picture_names)
        return torch.cat(
            [
                self._cell_words(seen.cell_names) + learned_cells + self.position,
                gist + learned_picture.unflatten(-1, (GIST_TOKENS, -1)),
                # Nothing is added to the name: the language model copies it, names that no
                # training photograph has included, for as long as it reads as words.
                name,
            ],
            dim=1,
        )

    @torch.no_grad()
    def name_probabilities(self, features: Tensor, sharpness: float = 1.0) -> Tensor:
        """(…, F) mean features of a picture or a part → (…, W) of the tower's names."""
        # In float32 also under autocast: a softmax over a thousand names loses its tail.
        with torch.autocast(features.device.type, enabled=False):
            logits = nn.functional.linear(
                features.float(), self.class_weight, self.class_bias
            )
            return (sharpness * logits).softmax(-1)

    def _cell_words(self, features: Tensor) -> Tensor:
        names = self.name_probabilities(features, _CELL_SHARPNESS)
        return names @ self.mean_name_words

    def _picture_words(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Both (B, 4, D): the mean word of the names, for the gist, and the name's sub-tokens."""
        names = self.name_probabilities(features, _NAME_SHARPNESS)
        gist = (names @ self.mean_name_words).unsqueeze(1)
        spelt = torch.einsum("bw,wtd->btd", names, self.name_words)
        return gist.expand(-1, GIST_TOKENS, -1), spelt


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
