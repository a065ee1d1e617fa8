"""Pairs of earlier steps as negatives of the contrastive loss.

Cross-batch memory (Wang et al., arXiv 1912.06798): embeddings drift slowly while a model trains, so
those of the last steps still tell what an image is not. Shapes: Q pairs, E embedding size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class QueuedPairs:
    """Embeddings of images and captions, and the keys of the captions."""

    images: Tensor  # (Q, E)
    texts: Tensor  # (Q, E)
    keys: Tensor  # (Q,) int64


class NegativeQueue(nn.Module):
    """The last `size` pairs, oldest overwritten first; its buffers belong in a checkpoint."""

    images: Tensor
    texts: Tensor
    keys: Tensor
    pushed: Tensor

    def __init__(self, size: int, embedding_size: int) -> None:
        super().__init__()
        self.register_buffer("images", torch.zeros(size, embedding_size))
        self.register_buffer("texts", torch.zeros(size, embedding_size))
        self.register_buffer("keys", torch.zeros(size, dtype=torch.int64))
        self.register_buffer("pushed", torch.zeros((), dtype=torch.int64))

    def pairs(self) -> QueuedPairs:
        """What the queue holds: fewer than `size` pairs at first. A copy."""
        count = min(int(self.pushed), len(self.keys))
        # A copy, because the loss's graph still needs them when the next pairs overwrite them.
        return QueuedPairs(
            self.images[:count].clone(),
            self.texts[:count].clone(),
            self.keys[:count].clone(),
        )

    def push(self, images: Tensor, texts: Tensor, keys: Tensor) -> None:
        """Takes up (N, E) images and texts and the (N,) keys of the captions, without gradients."""
        size = len(self.keys)
        # Of more pairs than there is room for, the last.
        images, texts, keys = images[-size:], texts[-size:], keys[-size:]
        numbers = torch.arange(len(keys), device=self.keys.device)
        places = (self.pushed + numbers) % size
        self.images[places] = images
        self.texts[places] = texts
        self.keys[places] = keys
        self.pushed += len(keys)


def caption_keys(captions: Sequence[str]) -> Tensor:
    """(N,) int64, equal where captions are equal. A hash, so that a checkpoint can hold them."""
    digests = [
        blake2b(caption.encode(), digest_size=8).digest() for caption in captions
    ]
    return torch.tensor(
        [int.from_bytes(digest, signed=True) for digest in digests], dtype=torch.int64
    )
