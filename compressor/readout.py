"""How the hidden states at the summary positions become summary tokens.

`hidden` is Fwd2Bot's (arXiv 2503.21757): the last hidden states themselves. `soft_words` reads the model's own output
distribution back through its input embeddings, so that an untrained second pass understands the tokens at once: what a
summary position reads is a draft, the position before it says which word the model would have written there, and the
summary token is a mixture of both. `soft_words_in_turn` lets the model write: each soft word is read before the next is
made, so there are no drafts (lvlm.py decodes them).
Knows nothing of adapters. Shapes: B batch, K summary tokens, D hidden size, W words.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compressor.summary_config import ReadoutKind


class Readout(nn.Module):
    """Hidden states → (B, K, D) summary tokens. Training moves each position's share of its soft word."""

    def __init__(
        self,
        kind: ReadoutKind,
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
        written, logits = self.soft_words(before, output_head, words)
        return torch.lerp(drafts.float(), written, self.soft_word_share), logits

    def soft_words(self, states: Tensor, output_head: nn.Module, words: Tensor) -> tuple[Tensor, Tensor]:
        """(B, K, D) last states → the (B, K, D) mixtures of words that the model writes next, and their logits."""
        logits = output_head(states)
        mixture = torch.softmax(logits.float() / self.temperature, dim=-1).to(words.dtype)
        return (mixture @ words).float(), logits
