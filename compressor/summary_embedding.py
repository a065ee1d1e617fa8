"""Input embedding of a language model with K summary tokens behind its vocabulary.

The vocabulary and the tied output head stay as they are: ids from `vocabulary size` on are the summary tokens'.
Knows nothing of passes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SummaryTokenEmbedding(nn.Module):
    """Wraps the model's own embedding; rows of summary tokens are the only trained ones."""

    def __init__(self, words: nn.Embedding, token_count: int) -> None:
        super().__init__()
        self.words = words
        self.summary = nn.Parameter(torch.zeros(token_count, words.embedding_dim, dtype=torch.float32))

    @property
    def weight(self) -> Tensor:
        """(vocabulary, D) embedding matrix of the words alone: what the output head may be tied to."""
        return self.words.weight

    @property
    def first_summary_id(self) -> int:
        """Id of summary token 0."""
        return self.words.num_embeddings

    def forward(self, ids: Tensor) -> Tensor:
        """(B, T) ids → (B, T, D)."""
        is_summary = ids >= self.first_summary_id
        embedded = self.words(ids.masked_fill(is_summary, 0))
        rows = self.summary.to(embedded.dtype)[(ids - self.first_summary_id).clamp(min=0)]
        return torch.where(is_summary.unsqueeze(-1), rows, embedded)

    def initialise_from_words(self) -> None:
        """Starts all summary tokens at the mean word, where the language model expects its inputs to be."""
        with torch.no_grad():
            self.summary.copy_(self.words.weight.float().mean(0).expand_as(self.summary))
