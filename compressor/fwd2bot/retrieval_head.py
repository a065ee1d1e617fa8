"""From hidden states to retrieval embeddings, for images and for texts.

Shapes: B batch, K summary tokens, T text tokens, D hidden size, C channels (layers × D), W words, E
embedding size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compressor.fwd2bot.config import Pooling

_SMALLEST_STD = 1e-4  # a channel that never changes says nothing, and is not blown up


@dataclass(frozen=True)
class TextStates:
    """What the retrieval head reads of B texts."""

    hidden: Tensor  # (B, C) means over the tokens
    words: Tensor  # (B, T, D) float32 input embeddings of the tokens
    counted: Tensor  # (B, T) 1 for a token of the text, 0 for padding and added tokens

    def __getitem__(self, rows: slice) -> TextStates:
        """Some of the texts."""
        return TextStates(self.hidden[rows], self.words[rows], self.counted[rows])


class WordMap(nn.Module):
    """Embeds mixtures of words: the same map for an image's soft words and for a text's tokens.

    What a text names and an image's summary tokens name meet in it without any training, for a map
    of orthogonal rows keeps words that differ apart. So a name that no training showed is found.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, vocabulary: Tensor, embedding_size: int) -> None:
        """`vocabulary` is the (W, D) input embedding matrix."""
        super().__init__()
        width = vocabulary.shape[1]
        self.register_buffer("mean", vocabulary.float().mean(0))
        self.register_buffer("std", vocabulary.float().std(0).clamp(min=_SMALLEST_STD))
        # How much a word counts: "a" says less than "zebra". All alike at the start.
        self.relevance = nn.Linear(width, 1)
        self.map = nn.Linear(width, embedding_size, bias=False)
        self.log_gain = nn.Parameter(torch.zeros(()))  # beside the hidden states' part
        self.reset()

    def reset(self) -> None:
        """Makes it a map that nothing has trained."""
        nn.init.zeros_(self.relevance.weight)
        nn.init.zeros_(self.relevance.bias)
        nn.init.orthogonal_(self.map.weight)
        nn.init.zeros_(self.log_gain)

    def forward(self, words: Tensor, counted: Tensor) -> Tensor:
        """(B, T, D) words, of which (B, T) count → (B, E)."""
        standard = (words - self.mean) / self.std
        weights = self.relevance(standard).squeeze(-1).sigmoid() * counted
        pooled = (weights.unsqueeze(1) @ standard).squeeze(1)
        # A text may have no token at all.
        mean = pooled / weights.sum(1, keepdim=True).clamp(min=_SMALLEST_STD)
        return self.log_gain.exp() * nn.functional.normalize(self.map(mean), dim=-1)


class RetrievalHead(nn.Module):
    """Standardises, pools the summary positions, projects, and scales to length 1.

    Where summary tokens are mixtures of words, these are embedded beside the hidden states.

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
        vocabulary: Tensor | None = None,
    ) -> None:
        """`vocabulary`: the (W, D) input embedding matrix where summary tokens are soft words."""
        super().__init__()
        self.pooling = pooling
        self.logit_scale = nn.Parameter(torch.empty(()))
        # An image has states at K positions, a text has one state.
        self.register_buffer("image_mean", torch.zeros(token_count, channels))
        self.register_buffer("image_std", torch.ones(token_count, channels))
        self.register_buffer("text_mean", torch.zeros(channels))
        self.register_buffer("text_std", torch.ones(channels))
        self.image = nn.Linear(channels, embedding_size)
        self.text = nn.Linear(channels, embedding_size)
        if pooling == Pooling.LEARNED:
            self.position_weights = nn.Parameter(torch.empty(1, token_count))
        self.words = None if vocabulary is None else WordMap(vocabulary, embedding_size)
        self.reset()

    def reset(self) -> None:
        """Makes it a head that nothing has trained; the channels' statistics stay."""
        nn.init.constant_(self.logit_scale, math.log(20.0))
        self.text.reset_parameters()
        # The same map for images and texts: an untrained head still compares like with like.
        self.image.load_state_dict(self.text.state_dict())
        if self.pooling == Pooling.LEARNED:
            nn.init.zeros_(self.position_weights)
        if self.words is not None:
            self.words.reset()

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

    def embed_image(
        self, states: Tensor, tokens: Tensor, dropout: float = 0.0
    ) -> Tensor:
        """(B, K, C) states and (B, K, D) summary tokens → (B, E) of length 1.

        Fitting applies `dropout` to the pooled channels.
        """
        standard = (states - self.image_mean) / self.image_std
        # By an argument, not by a module's mode: training keeps the model in evaluation mode.
        pooled = nn.functional.dropout(self._pooled(standard), dropout)
        every_token = tokens.new_ones(tokens.shape[:2])
        return self._with_words(self.image(pooled), tokens, every_token)

    def embed_text(self, states: TextStates, dropout: float = 0.0) -> Tensor:
        """(B, E) of length 1."""
        standard = (states.hidden - self.text_mean) / self.text_std
        projected = self.text(nn.functional.dropout(standard, dropout))
        return self._with_words(projected, states.words, states.counted)

    def _with_words(self, projected: Tensor, words: Tensor, counted: Tensor) -> Tensor:
        embedding = nn.functional.normalize(projected, dim=-1)
        if self.words is None:
            return embedding
        return nn.functional.normalize(embedding + self.words(words, counted), dim=-1)
