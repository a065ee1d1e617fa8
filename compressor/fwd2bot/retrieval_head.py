"""From hidden states to retrieval embeddings, for images and for texts.

Shapes: B batch, K summary tokens, C channels (layers × hidden size), E embedding size.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from compressor.fwd2bot.config import Pooling

_SMALLEST_STD = 1e-4  # a channel that never changes says nothing, and is not blown up


class RetrievalHead(nn.Module):
    """Standardises, pools the summary positions, projects, and scales to length 1.

    A few channels of an LLM's hidden states are many times larger than the rest and would drown
    them, so each is standardised first. `logit_scale` is the logarithm of the inverse temperature
    of the contrastive loss (CLIP, arXiv 2103.00020, 2.5).
    """

    image_mean: Tensor
    image_std: Tensor
    text_mean: Tensor
    text_std: Tensor

    def __init__(
        self,
        channels: int,
        embedding_size: int,
        token_count: int,
        pooling: Pooling = Pooling.LEARNED,
    ) -> None:
        super().__init__()
        self.pooling = pooling
        self.logit_scale = nn.Parameter(torch.tensor(math.log(20.0)))
        # An image has states at K positions, a text has one state.
        self.register_buffer("image_mean", torch.zeros(token_count, channels))
        self.register_buffer("image_std", torch.ones(token_count, channels))
        self.register_buffer("text_mean", torch.zeros(channels))
        self.register_buffer("text_std", torch.ones(channels))
        self.image = nn.Linear(channels, embedding_size)
        self.text = nn.Linear(channels, embedding_size)
        # The same map for images and texts: an untrained head still compares like with like.
        self.image.load_state_dict(self.text.state_dict())
        if pooling == Pooling.LEARNED:
            self.position_weights = nn.Parameter(torch.zeros(1, token_count))

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

    def _pooled(self, states: Tensor) -> Tensor:
        """(B, K, C) → (B, C)."""
        if self.pooling == Pooling.LAST:
            return states[:, -1]
        if self.pooling == Pooling.MEAN:
            return states.mean(1)
        shares = self.position_weights.softmax(1)
        return (shares @ states).squeeze(1)

    def embed_image(self, states: Tensor, dropout: float = 0.0) -> Tensor:
        """(B, K, C) → (B, E) of length 1; fitting applies `dropout` to the pooled channels."""
        standard = (states - self.image_mean) / self.image_std
        # By an argument, not by a module's mode: training keeps the model in evaluation mode.
        pooled = nn.functional.dropout(self._pooled(standard), dropout)
        return nn.functional.normalize(self.image(pooled), dim=-1)

    def embed_text(self, states: Tensor, dropout: float = 0.0) -> Tensor:
        """(B, C) → (B, E) of length 1."""
        standard = (states - self.text_mean) / self.text_std
        projected = self.text(nn.functional.dropout(standard, dropout))
        return nn.functional.normalize(projected, dim=-1)
