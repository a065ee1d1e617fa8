"""From hidden states to retrieval embeddings, for images and for texts.

Knows nothing of where the states come from. Shapes: B batch, C channels (layers × hidden size), E embedding size.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class RetrievalHead(nn.Module):
    """Standardises each channel (statistics of the training part), projects, and scales to length 1.

    `log_scale` is the logarithm of the inverse temperature of the contrastive loss (CLIP, arXiv 2103.00020, 2.5).
    """

    def __init__(self, channels: int, embedding_size: int) -> None:
        super().__init__()
        self.image = nn.Linear(channels, embedding_size)
        self.text = nn.Linear(channels, embedding_size)
        self.text.load_state_dict(self.image.state_dict())  # an untrained head still compares like with like
        self.log_scale = nn.Parameter(torch.tensor(math.log(20.0)))
        for kind in ("image", "text"):
            self.register_buffer(f"{kind}_mean", torch.zeros(channels))
            self.register_buffer(f"{kind}_deviation", torch.ones(channels))

    def fit_statistics(self, image_states: Tensor, text_states: Tensor) -> None:
        """Takes mean and deviation of each channel from (B, C) states of training images and texts."""
        for kind, states in (("image", image_states), ("text", text_states)):
            getattr(self, f"{kind}_mean").copy_(states.mean(0))
            getattr(self, f"{kind}_deviation").copy_(states.std(0).clamp(min=1e-4))

    @property
    def has_statistics(self) -> bool:
        """Whether `fit_statistics` has been called."""
        return bool((self.image_mean != 0).any())

    def embed_image(self, states: Tensor) -> Tensor:
        """(B, C) → (B, E) of length 1."""
        return nn.functional.normalize(self.image((states - self.image_mean) / self.image_deviation), dim=-1)

    def embed_text(self, states: Tensor) -> Tensor:
        """(B, C) → (B, E) of length 1."""
        return nn.functional.normalize(self.text((states - self.text_mean) / self.text_deviation), dim=-1)
