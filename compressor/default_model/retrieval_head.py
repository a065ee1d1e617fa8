"""The default model's retrieval head: parts side by side in an embedding, and a gate for texts.

Shapes: B batch, L layers, C channels (layers × hidden size), E embedding size, P parts, e size of a
part.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from compressor.fwd2bot.config import EmbeddingPart, SummaryConfig
from compressor.fwd2bot.retrieval_head import EmbeddingHead, leaning, weighted

# Share of a text's weight that all parts get alike, for a part that the gate wrongly shuts would
# find nothing. It raised the mean average precision of nouns among captioned photographs from 28.2
# to 29.8 %.
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
    ) -> None:
        super().__init__()
        positions = part.positions or tuple(range(token_count))
        rows = torch.arange(len(layers) * hidden_size).view(len(layers), hidden_size)
        read = [
            row
            for row, layer in enumerate(layers)
            if not part.layers or layer in part.layers
        ]
        channels = rows[read].flatten()
        self.image = nn.Linear(part.pools * len(channels), size)
        self.text = nn.Linear(len(layers) * hidden_size, size)
        with torch.no_grad():  # an untrained head still compares like with like
            self.image.weight.copy_(self.text.weight[:, channels].repeat(1, part.pools))
            self.image.bias.copy_(self.text.bias)
        self.position_weights = nn.Parameter(leaning(part.pools, len(positions)))
        # Not stored: the settings already say which positions and channels a part reads.
        self.register_buffer("positions", torch.tensor(positions), persistent=False)
        self.register_buffer("channels", channels, persistent=False)

    def embed_image(self, standard: Tensor, dropout: float) -> Tensor:
        """(B, K, C) standardised states → (B, e) of length 1."""
        states = standard[:, self.positions][..., self.channels]
        pooled = nn.functional.dropout(weighted(states, self.position_weights), dropout)
        return nn.functional.normalize(self.image(pooled), dim=-1)

    def embed_text(self, standard: Tensor, dropout: float) -> Tensor:
        """(B, C) standardised states → (B, e) of length 1."""
        return nn.functional.normalize(
            self.text(nn.functional.dropout(standard, dropout)), dim=-1
        )


class PartedHead(EmbeddingHead):
    """Puts an embedding of each part side by side; a text decides how much each part counts.

    What finds a thing by its name is not what finds a picture by a sentence.
    """

    def __init__(
        self,
        layers: Sequence[int],
        hidden_size: int,
        embedding_size: int,
        token_count: int,
        parts: Sequence[EmbeddingPart] = (EmbeddingPart(),),
    ) -> None:
        channels = len(layers) * hidden_size
        super().__init__(channels, token_count)
        self.parts = nn.ModuleList()
        for part in parts:
            size = part.size or embedding_size // len(parts)
            self.parts.append(PartHead(layers, hidden_size, size, token_count, part))
        self.gate = nn.Linear(channels, len(parts)) if len(parts) > 1 else None
        if self.gate is not None:
            # An untrained gate gives every part the same share, whatever the text.
            nn.init.zeros_(self.gate.weight)
            nn.init.zeros_(self.gate.bias)

    @classmethod
    def of(cls, config: SummaryConfig, hidden_size: int) -> PartedHead:
        """An untrained head as the settings have it."""
        return cls(
            config.embedding_layers,
            hidden_size,
            config.embedding_size,
            config.token_count,
            config.embedding_parts,
        )

    def embed_image(self, states: Tensor, dropout: float = 0.0) -> Tensor:
        """(B, K, C) → (B, E) of length 1; fitting applies `dropout` to the pooled channels."""
        # No gate here: an image is stored once, and each query weighs the parts anew.
        return joined(self.image_parts(states, dropout))

    def embed_text(self, states: Tensor, dropout: float = 0.0) -> Tensor:
        """(B, C) → (B, E) of length 1."""
        return joined(self.text_parts(states, dropout), self.gates(states))

    def image_parts(self, states: Tensor, dropout: float = 0.0) -> list[Tensor]:
        """P times (B, e) of length 1."""
        standard = self.standard_images(states)
        return [part.embed_image(standard, dropout) for part in self._heads()]

    def text_parts(self, states: Tensor, dropout: float = 0.0) -> list[Tensor]:
        """P times (B, e) of length 1."""
        standard = self.standard_texts(states)
        return [part.embed_text(standard, dropout) for part in self._heads()]

    def part(self, number: int) -> PartHead:
        """One part, by its place in the embedding."""
        return self._heads()[number]

    def _heads(self) -> list[PartHead]:
        return [part for part in self.parts if isinstance(part, PartHead)]

    def gates(self, states: Tensor, dropout: float = 0.0) -> Tensor | None:
        """(B, C) → (B, P) shares of the parts for a text, which sum to 1; None for one part."""
        if self.gate is None:
            return None
        standard = nn.functional.dropout(self.standard_texts(states), dropout)
        learnt: Tensor = self.gate(standard).softmax(-1)
        return (1 - _EVEN_SHARE) * learnt + _EVEN_SHARE / len(self.parts)


def joined(parts: Sequence[Tensor], gates: Tensor | None = None) -> Tensor:
    """P times (B, e) side by side, each times its gate (B, P) → (B, E) of length 1."""
    if len(parts) == 1:
        return parts[0]
    if gates is not None:
        # Shares as they are, not their square roots: a share of 0.05 then counts 0.05 and not 0.22,
        # and labels lose nothing (held out, R@1 83.6 % instead of 79.6 %).
        parts = [part * gates[:, number, None] for number, part in enumerate(parts)]
    return nn.functional.normalize(torch.cat(list(parts), dim=-1), dim=-1)
