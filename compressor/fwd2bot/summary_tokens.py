"""Summary tokens on their way in and out: the learnt input embeddings, and the readout.

Shapes: B batch, T tokens, K summary tokens, D hidden size, W words of the vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compressor.fwd2bot.config import ReadoutKind

_SEED = 13  # of the start of the summary tokens
_START_SPREAD = 0.5  # standard deviations of the word embeddings, around the mean word


class SummaryTokenEmbedding(nn.Module):
    """A language model's input embedding with K summary tokens behind its vocabulary.

    The words and a tied output head stay as they are; ids from the vocabulary's size on are the
    summary tokens', whose rows alone are trained.
    """

    def __init__(self, words: nn.Embedding, token_count: int) -> None:
        super().__init__()
        self.words = words
        # Float32 beside words of any dtype: in half precision small updates would be lost.
        start = torch.zeros(token_count, words.embedding_dim, dtype=torch.float32)
        self.summary = nn.Parameter(start)

    @property
    def weight(self) -> Tensor:
        """(W, D) embedding matrix of the words alone: what the output head may be tied to."""
        return self.words.weight

    @property
    def first_summary_id(self) -> int:
        """Id of summary token 0."""
        return self.words.num_embeddings

    def forward(self, ids: Tensor) -> Tensor:
        """(B, T) ids → (B, T, D)."""
        is_summary = ids >= self.first_summary_id
        # Both tables are read at every place and one of them is chosen: no shape depends on data.
        words = ids.masked_fill(is_summary, 0)
        embedded: Tensor = self.words(words)
        numbers = (ids - self.first_summary_id).clamp(min=0)
        rows = self.summary.to(embedded.dtype)[numbers]
        return torch.where(is_summary.unsqueeze(-1), rows, embedded)

    def start_at_mean_word(self) -> None:
        """All summary tokens alike: the mean word, where the model expects its inputs to be."""
        with torch.no_grad():
            mean = self.words.weight.float().mean(0)
            self.summary.copy_(mean.expand_as(self.summary))

    def start_around_mean_word(self) -> None:
        """Summary tokens around the mean word, each its own; the same at every call.

        Equal tokens differ by their positions alone, get nearly equal gradients, and take long to
        part. The noise has the scale of the word embeddings, so that each starts like some word.
        """
        # A generator of its own: what else draws before must not change where the tokens start.
        draw = torch.Generator().manual_seed(_SEED)
        noise = torch.randn(self.summary.shape, generator=draw).to(self.summary.device)
        self.start_at_mean_word()
        with torch.no_grad():
            spread = self.words.weight.float().std(0)
            self.summary.add_(_START_SPREAD * spread * noise)


class Readout(nn.Module):
    """Hidden states at the summary positions → (B, K, D) summary tokens.

    `hidden` is Fwd2Bot's (arXiv 2503.21757): the last hidden states themselves. `soft_words` reads
    the model's own output distribution back through its input embeddings, so that an untrained
    second pass understands the tokens at once: the position before a summary position says which
    word the model would have written there. With `soft_words_in_turn` the model writes: each soft
    word is read before the next is made (`SummaryLvlm` decodes them).
    """

    def __init__(self, kind: ReadoutKind, temperature: float) -> None:
        super().__init__()
        self.kind = kind
        self.temperature = temperature

    def forward(
        self,
        hidden: Tensor,
        before: Tensor,
        output_head: nn.Module,
        words: Tensor,
    ) -> tuple[Tensor, Tensor | None]:
        """Summary tokens and, for soft words, the (B, K, W) logits they were mixed by.

        Both (B, K, D): `hidden` last states at the summary positions, `before` a position earlier.
        `words` is the (W, D) input embedding matrix.
        """
        if self.kind == ReadoutKind.HIDDEN:
            # Summary tokens leave the model as float32, as the port `SummaryModel` promises.
            return hidden.float(), None
        return self.soft_words(before, output_head, words)

    def soft_words(
        self, states: Tensor, output_head: nn.Module, words: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(B, K, D) last states → (B, K, D) mixtures of the words that the model writes next.

        With them come their (B, K, W) logits.
        """
        logits: Tensor = output_head(states)
        # In float32: a softmax over 10⁵ words loses its tail in half precision.
        shares = torch.softmax(logits.float() / self.temperature, dim=-1)
        # In the words' dtype again, which spares a float32 copy of the whole (W, D) matrix.
        mixture = shares.to(words.dtype) @ words
        return mixture.float(), logits
