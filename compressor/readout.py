"""How the hidden states at the summary positions become summary tokens.

`hidden` is Fwd2Bot's (arXiv 2503.21757): the last hidden states themselves. `soft_words` reads the model's own output
distribution back through its input embeddings, so that an untrained second pass understands the tokens at once: what a
summary position reads is a draft, the position before it says which word the model would have written there, and the
summary token is a mixture of both.
Knows nothing of adapters. Shapes: B batch, K summary tokens, D hidden size, W words.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn


class Readout(nn.Module):
    """Hidden states → (B, K, D) summary tokens. Training moves each position's share of its soft word."""

    def __init__(
        self,
        kind: Literal["hidden", "soft_words"],
        token_count: int,
        temperature: float,
        soft_word_share: float,
    ) -> None:
        super().__init__()
        self.kind, self.temperature = kind, temperature
        self.soft_word_share = nn.Parameter(torch.full((token_count, 1), soft_word_share))

    def forward(
        self, hidden: Tensor, before: Tensor, drafts: Tensor, output_head: nn.Module, words: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Summary tokens and, for soft words, the (B, K, W) logits they were mixed by.

        All (B, K, D): `hidden` last states at the summary positions, `before` one position earlier, `drafts` what the
        summary positions read. `words` is the (W, D) input embedding matrix.
        """
        if self.kind == "hidden":
            return hidden.float(), None
        logits = output_head(before)
        mixture = torch.softmax(logits.float() / self.temperature, dim=-1).to(words.dtype)
        return torch.lerp(drafts.float(), (mixture @ words).float(), self.soft_word_share), logits
