"""How the hidden states at the summary positions become summary tokens.

`hidden` is Fwd2Bot's (arXiv 2503.21757): the last hidden states themselves. `soft_words` reads the model's own output
distribution back through its input embeddings, so that an untrained second pass understands the tokens at once.
Knows nothing of adapters. Shapes: B batch, K summary tokens, D hidden size, W words.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn


class Readout(nn.Module):
    """(B, K, D) hidden states → (B, K, D) summary tokens; `change` (zero at the start) is what training adds."""

    def __init__(self, kind: Literal["hidden", "soft_words"], hidden_size: int, temperature: float) -> None:
        super().__init__()
        self.kind, self.temperature = kind, temperature
        self.change = nn.Linear(hidden_size, hidden_size, bias=False)
        nn.init.zeros_(self.change.weight)

    def forward(self, hidden: Tensor, output_head: nn.Module, words: Tensor) -> tuple[Tensor, Tensor | None]:
        """Summary tokens and, for soft words, the (B, K, W) logits they were mixed by; `words` is (W, D)."""
        change = self.change(hidden.to(self.change.weight.dtype))
        if self.kind == "hidden":
            return hidden.float() + change.float(), None
        logits = output_head(hidden)
        mixture = torch.softmax(logits.float() / self.temperature, dim=-1).to(words.dtype)
        return (mixture @ words).float() + change.float(), logits
