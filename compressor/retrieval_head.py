"""From hidden states to retrieval embeddings, for images and for texts.

Knows nothing of where the states come from. Shapes: B batch, C channels (layers × hidden size), E embedding size.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class RetrievalHead(nn.Module):
    """Standardises each channel (statistics of the training part), pools, projects, and scales to length 1.

    An image has states at K positions, of which each of P pools takes its own mixture; a text has one state.
    `log_scale` is the logarithm of the inverse temperature of the contrastive loss (CLIP, arXiv 2103.00020, 2.5).
    """

    def __init__(self, channels: int, embedding_size: int, token_count: int, pools: int = 1) -> None:
        super().__init__()
        self.image = nn.Linear(pools * channels, embedding_size)
        self.text = nn.Linear(channels, embedding_size)
        with torch.no_grad():  # an untrained head still compares like with like
            self.image.weight.copy_(self.text.weight.repeat(1, pools))
            self.image.bias.copy_(self.text.bias)
        # Shares of a softmax: at the start each pool leans to its part of the positions; a single one takes all alike.
        part = torch.arange(token_count) * pools // token_count
        start = 3.0 * (part == torch.arange(pools).unsqueeze(1)) if pools > 1 else torch.zeros(1, token_count)
        self.position_weights = nn.Parameter(start.float())
        self.log_scale = nn.Parameter(torch.tensor(math.log(20.0)))
        for kind, shape in (("image", (token_count, channels)), ("text", (channels,))):
            self.register_buffer(f"{kind}_mean", torch.zeros(shape))
            self.register_buffer(f"{kind}_deviation", torch.ones(shape))

    def fit_statistics(self, image_states: Tensor, text_states: Tensor) -> None:
        """Takes mean and deviation of each channel from (B, K, C) and (B, C) states of training images and texts."""
        for kind, states in (("image", image_states), ("text", text_states)):
            getattr(self, f"{kind}_mean").copy_(states.mean(0))
            getattr(self, f"{kind}_deviation").copy_(states.std(0).clamp(min=1e-4))

    @property
    def has_statistics(self) -> bool:
        """Whether `fit_statistics` has been called."""
        return bool((self.image_mean != 0).any())

    def embed_image(self, states: Tensor, dropout: float = 0.0) -> Tensor:
        """(B, K, C) → (B, E) of length 1; `dropout` of the pooled channels while the head is fitted."""
        standard = (states - self.image_mean) / self.image_deviation
        pooled = torch.einsum("pk,bkc->bpc", self.position_weights.softmax(1), standard).flatten(1)
        return nn.functional.normalize(self.image(nn.functional.dropout(pooled, dropout)), dim=-1)

    def embed_text(self, states: Tensor, dropout: float = 0.0) -> Tensor:
        """(B, C) → (B, E) of length 1."""
        standard = (states - self.text_mean) / self.text_deviation
        return nn.functional.normalize(self.text(nn.functional.dropout(standard, dropout)), dim=-1)
