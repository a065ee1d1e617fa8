"""The readout, beside what its definition says in a loop."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from compressor.fwd2bot.summary_tokens import Readout

B, K, D, W = 2, 3, 4, 7


@pytest.fixture
def states() -> tuple[torch.Tensor, torch.Tensor]:
    """Last states at the summary positions, and one position before."""
    draw = torch.Generator().manual_seed(0)
    return torch.randn(B, K, D, generator=draw), torch.randn(B, K, D, generator=draw)


@pytest.fixture
def head() -> nn.Linear:
    torch.manual_seed(1)
    return nn.Linear(D, W, bias=False)


def test_hidden_states_are_the_tokens(
    states: tuple[torch.Tensor, torch.Tensor], head: nn.Linear
) -> None:
    tokens, logits = Readout("hidden", 0.5)(*states, head, head.weight)
    assert logits is None
    torch.testing.assert_close(tokens, states[0])


def test_soft_words_mix_the_embeddings_of_the_words_the_model_would_write(
    states: tuple[torch.Tensor, torch.Tensor], head: nn.Linear
) -> None:
    words = torch.randn(W, D, generator=torch.Generator().manual_seed(2))
    head.requires_grad_(False)
    with torch.no_grad():
        tokens, logits = Readout("soft_words", 0.5)(*states, head, words)
    for row in range(B):
        for place in range(K):
            scores = [
                float(states[1][row, place] @ head.weight[word]) for word in range(W)
            ]
            weights = [2.718281828459045 ** (score / 0.5) for score in scores]
            mixed = sum(
                weight * words[word] for word, weight in enumerate(weights)
            ) / sum(weights)
            torch.testing.assert_close(tokens[row, place], mixed)
            torch.testing.assert_close(
                logits[row, place], torch.tensor(scores), atol=1e-5, rtol=1e-4
            )
