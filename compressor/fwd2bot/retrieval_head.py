"""From hidden states to retrieval embeddings, for images and for texts.

Shapes: B batch, K summary tokens, C channels (layers × hidden size), E embedding size.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from compressor.fwd2bot.config import Pooling

_SMALLEST_STD = 1e-4  # a channel that never changes says nothing, and is not blown up


class EmbeddingHead(nn.Module):
    """What training and serving ask of a head; standardises each channel first.

    A few channels of an LLM's hidden states are many times larger than the rest and would drown
    them. `logit_scale` is the logarithm of the inverse temperature of the contrastive loss (CLIP,
    arXiv 2103.00020, 2.5).
    """

    image_mean: Tensor
    image_std: Tensor
    text_mean: Tensor
    text_std: Tensor

    def __init__(self, channels: int, token_count: int) -> None:
        super().__init__()
        self.logit_scale = nn.Parameter(torch.tensor(math.log(20.0)))
        # An image has states at K positions, a text has one state.
        self.register_buffer("image_mean", torch.zeros(token_count, channels))
        self.register_buffer("image_std", torch.ones(token_count, channels))
        self.register_buffer("text_mean", torch.zeros(channels))
        self.register_buffer("text_std", torch.ones(channels))

    def fit_statistics(self, hidden_states: Tensor, text_states: Tensor) -> None:
        """Takes each channel's mean and deviation from states of training images and texts.

        `hidden_states` are (B, K, C), `text_states` (B, C).
        """
        self.image_mean.copy_(hidden_states.mean(0))
        self.image_std.copy_(hidden_states.std(0).clamp(min=_SMALLEST_STD))
        self.text_mean.copy_(text_states.mean(0))
        self.text_std.copy_(text_states.std(0).clamp(min=_SMALLEST_STD))

    @property
    def has_statistics(self) -> bool:
        """Whether `fit_statistics` has been called."""
        # A mean of exactly 0 in every channel does not happen, and a flag would be one more tensor
        # in the files of adapters that exist.
        return bool(self.image_mean.count_nonzero() > 0)

    def standard_images(self, states: Tensor) -> Tensor:
        """(B, K, C) → the same, each channel with mean 0 and deviation 1."""
        return (states - self.image_mean) / self.image_std

    def standard_texts(self, states: Tensor) -> Tensor:
        """(B, C) → the same, each channel with mean 0 and deviation 1."""
        return (states - self.text_mean) / self.text_std

    def embed_image(self, states: Tensor, dropout: float = 0.0) -> Tensor:
        """(B, K, C) → (B, E) of length 1; fitting applies `dropout` to the pooled channels."""
        raise NotImplementedError

    def embed_text(self, states: Tensor, dropout: float = 0.0) -> Tensor:
        """(B, C) → (B, E) of length 1."""
        raise NotImplementedError


class RetrievalHead(EmbeddingHead):
    """Standardises, pools the summary positions, projects, and scales to length 1."""

    def __init__(
        self,
        channels: int,
        embedding_size: int,
        token_count: int,
        pooling: Pooling = Pooling.LEARNED,
        pools: int = 1,
    ) -> None:
        super().__init__(channels, token_count)
        self.pooling = pooling
        self.image = nn.Linear(pools * channels, embedding_size)
        self.text = nn.Linear(channels, embedding_size)
        # The same map for images and texts: an untrained head still compares like with like.
        with torch.no_grad():
            self.image.weight.copy_(self.text.weight.repeat(1, pools))
            self.image.bias.copy_(self.text.bias)
        if pooling == Pooling.LEARNED:
            self.position_weights = nn.Parameter(leaning(pools, token_count))

    def _pooled(self, states: Tensor) -> Tensor:
        """(B, K, C) → (B, pools × C)."""
        if self.pooling == Pooling.LAST:
            return states[:, -1]
        if self.pooling == Pooling.MEAN:
            return states.mean(1)
        return weighted(states, self.position_weights)

    def embed_image(self, states: Tensor, dropout: float = 0.0) -> Tensor:
        """(B, K, C) → (B, E) of length 1; fitting applies `dropout` to the pooled channels."""
        standard = self.standard_images(states)
        # By an argument, not by a module's mode: training keeps the model in evaluation mode.
        pooled = nn.functional.dropout(self._pooled(standard), dropout)
        projected = self.image(pooled)
        return nn.functional.normalize(projected, dim=-1)

    def embed_text(self, states: Tensor, dropout: float = 0.0) -> Tensor:
        """(B, C) → (B, E) of length 1."""
        standard = self.standard_texts(states)
        projected = self.text(nn.functional.dropout(standard, dropout))
        return nn.functional.normalize(projected, dim=-1)


def leaning(pools: int, positions: int) -> Tensor:
    """(pools, positions) logits of each pool's shares of the positions.

    Each pool leans to its stretch of the positions; a single one takes all alike.
    """
    if pools == 1:
        return torch.zeros(1, positions)
    stretches = torch.arange(positions) * pools // positions
    # exp(3) ≈ 20: a strong start that training can still undo.
    own = stretches == torch.arange(pools).unsqueeze(1)
    return 3.0 * own.float()


def weighted(states: Tensor, position_weights: Tensor) -> Tensor:
    """(B, K, C) states, (pools, K) logits → (B, pools × C) mixtures of the positions."""
    shares = position_weights.softmax(1)
    return torch.einsum("pk,bkc->bpc", shares, states).flatten(1)
