"""From hidden states to retrieval embeddings, for images and for texts.

Knows nothing of where the states come from. Shapes: B batch, L layers, C channels (layers × hidden
size), E embedding size, P parts, e size of a part.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from compressor.fwd2bot.config import EmbeddingPart, Pooling

# of what the parts count for a text, shared by all: one that is wrongly shut would find nothing
_EVEN_SHARE = 0.3


class PartHead(nn.Module):
    """One part of an embedding: pools states at some positions and layers, and projects them."""

    positions: Tensor
    channels: Tensor

    def __init__(
        self,
        layers: Sequence[int],
        hidden_size: int,
        size: int,
        token_count: int,
        part: EmbeddingPart,
        pooling: Pooling = Pooling.LEARNED,
    ) -> None:
        super().__init__()
        positions = part.positions or tuple(range(token_count))
        rows = torch.arange(len(layers) * hidden_size).view(len(layers), hidden_size)
        read = [row for row, layer in enumerate(layers) if not part.layers or layer in part.layers]
        channels = rows[read].flatten()
        self.pooling = pooling
        self.image = nn.Linear(part.pools * len(channels), size)
        self.text = nn.Linear(len(layers) * hidden_size, size)
        with torch.no_grad():  # an untrained head still compares like with like
            self.image.weight.copy_(self.text.weight[:, channels].repeat(1, part.pools))
            self.image.bias.copy_(self.text.bias)
        if pooling == Pooling.LEARNED:
            self.position_weights = nn.Parameter(_leaning(part.pools, len(positions)))
        self.register_buffer("positions", torch.tensor(positions), persistent=False)
        self.register_buffer("channels", channels, persistent=False)

    def _pooled(self, states: Tensor) -> Tensor:
        """(B, K, C) → (B, pools × C)."""
        if self.pooling == Pooling.LAST:
            return states[:, -1]
        if self.pooling == Pooling.MEAN:
            return states.mean(1)
        return torch.einsum("pk,bkc->bpc", self.position_weights.softmax(1), states).flatten(1)

    def embed_image(self, standard: Tensor, dropout: float) -> Tensor:
        """(B, K, C) standardised states → (B, e) of length 1."""
        pooled = self._pooled(standard[:, self.positions][..., self.channels])
        return nn.functional.normalize(self.image(nn.functional.dropout(pooled, dropout)), dim=-1)

    def embed_text(self, standard: Tensor, dropout: float) -> Tensor:
        """(B, C) standardised states → (B, e) of length 1."""
        return nn.functional.normalize(self.text(nn.functional.dropout(standard, dropout)), dim=-1)


def _leaning(pools: int, positions: int) -> Tensor:
    """(pools, positions) logits of each pool's shares of the positions.

    Each pool leans to its stretch of the positions; a single one takes all alike.
    """
    if pools == 1:
        return torch.zeros(1, positions)
    stretches = torch.arange(positions) * pools // positions
    own = stretches == torch.arange(pools).unsqueeze(1)
    return 3.0 * own.float()


class RetrievalHead(nn.Module):
    """Standardises each channel (statistics of the training part), pools, projects, and scales to
    length 1.

    An image has states at K positions, a text has one state. With several parts, an image's
    embedding holds one of each side by side, and a text decides how much each of them counts: what
    finds a thing by its name is not what finds a picture by a sentence. `logit_scale` is the
    logarithm of the inverse temperature of the contrastive loss (CLIP, arXiv 2103.00020, 2.5).
    """

    image_mean: Tensor
    image_std: Tensor
    text_mean: Tensor
    text_std: Tensor

    def __init__(
        self,
        layers: Sequence[int],
        hidden_size: int,
        embedding_size: int,
        token_count: int,
        parts: Sequence[EmbeddingPart] = (EmbeddingPart(),),
        pooling: Pooling = Pooling.LEARNED,
    ) -> None:
        super().__init__()
        channels = len(layers) * hidden_size
        self.parts = nn.ModuleList()
        for part in parts:
            size = part.size or embedding_size // len(parts)
            self.parts.append(PartHead(layers, hidden_size, size, token_count, part, pooling))
        self.gate = nn.Linear(channels, len(parts)) if len(parts) > 1 else None
        if self.gate is not None:
            nn.init.zeros_(self.gate.weight)
            nn.init.zeros_(self.gate.bias)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(20.0)))
        for kind, shape in (("image", (token_count, channels)), ("text", (channels,))):
            self.register_buffer(f"{kind}_mean", torch.zeros(shape))
            self.register_buffer(f"{kind}_std", torch.ones(shape))

    def fit_statistics(self, hidden_states: Tensor, text_states: Tensor) -> None:
        """Takes mean and deviation of each channel from (B, K, C) and (B, C) states of training
        images and texts.
        """
        for kind, states in (("image", hidden_states), ("text", text_states)):
            getattr(self, f"{kind}_mean").copy_(states.mean(0))
            getattr(self, f"{kind}_std").copy_(states.std(0).clamp(min=1e-4))

    @property
    def has_statistics(self) -> bool:
        """Whether `fit_statistics` has been called."""
        return bool((self.image_mean != 0).any())

    def embed_image(self, states: Tensor, dropout: float = 0.0) -> Tensor:
        """(B, K, C) → (B, E) of length 1; `dropout` of the pooled channels while the head is fitted."""
        return joined(self.image_parts(states, dropout))

    def embed_text(self, states: Tensor, dropout: float = 0.0) -> Tensor:
        """(B, C) → (B, E) of length 1."""
        return joined(self.text_parts(states, dropout), self.gates(states))

    def image_parts(self, states: Tensor, dropout: float = 0.0) -> list[Tensor]:
        """P times (B, e) of length 1."""
        standard = (states - self.image_mean) / self.image_std
        return [part.embed_image(standard, dropout) for part in self.parts]

    def text_parts(self, states: Tensor, dropout: float = 0.0) -> list[Tensor]:
        """P times (B, e) of length 1."""
        standard = (states - self.text_mean) / self.text_std
        return [part.embed_text(standard, dropout) for part in self.parts]

    def gates(self, states: Tensor, dropout: float = 0.0) -> Tensor | None:
        """(B, C) → (B, P), how much each part counts for a text; the shares sum to 1. None where
        there is one part.
        """
        if self.gate is None:
            return None
        standard = (states - self.text_mean) / self.text_std
        learnt: Tensor = self.gate(nn.functional.dropout(standard, dropout)).softmax(-1)
        return (1 - _EVEN_SHARE) * learnt + _EVEN_SHARE / len(self.parts)


def joined(parts: Sequence[Tensor], gates: Tensor | None = None) -> Tensor:
    """P times (B, e) side by side, each times its gate (B, P) → (B, E) of length 1."""
    if len(parts) == 1:
        return parts[0]
    weighed = (
        parts
        if gates is None
        else [part * gate for part, gate in zip(parts, gates.split(1, dim=1), strict=True)]
    )
    return nn.functional.normalize(torch.cat(list(weighed), dim=-1), dim=-1)
