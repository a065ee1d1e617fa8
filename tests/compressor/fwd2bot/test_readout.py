"""TODO."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from compressor.fwd2bot.summary_tokens import Readout

B, K, D, W = 2, 3, 4, 7


@pytest.fixture
def states() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Last states at the summary positions, one position before, and what the positions read."""
    draw = torch.Generator().manual_seed(0)
    hidden, before, drafts = (torch.randn(B, K, D, generator=draw) for _ in range(3))
    return hidden, before, drafts


@pytest.fixture
def head() -> nn.Linear:
    torch.manual_seed(1)
    return nn.Linear(D, W, bias=False)


def test_hidden_states_are_the_tokens(
    states: tuple[torch.Tensor, torch.Tensor, torch.Tensor], head: nn.Linear
) -> None:
    tokens, logits = Readout("hidden", K, 0.5, 1.0)(*states, head, head.weight)
    assert logits is None
    torch.testing.assert_close(tokens, states[0])


def test_soft_words_mix_the_embeddings_of_the_words_the_model_would_write(
    states: tuple[torch.Tensor, torch.Tensor, torch.Tensor], head: nn.Linear
) -> None:
    words = torch.randn(W, D, generator=torch.Generator().manual_seed(2))
    head.requires_grad_(False)
    with torch.no_grad():
        tokens, logits = Readout("soft_words", K, 0.5, 0.25)(*states, head, words)
    for row in range(B):
        for place in range(K):
            scores = [
                float(states[1][row, place] @ head.weight[word]) for word in range(W)
            ]
            weights = [2.718281828459045 ** (score / 0.5) for score in scores]
            mixed = sum(
                weight * words[word] for word, weight in enumerate(weights)
            ) / sum(weights)
            torch.testing.assert_close(
                tokens[row, place], 0.75 * states[2][row, place] + 0.25 * mixed
            )
            torch.testing.assert_close(
                logits[row, place], torch.tensor(scores), atol=1e-5, rtol=1e-4
            )


def test_each_position_learns_its_own_share(
    states: tuple[torch.Tensor, torch.Tensor, torch.Tensor], head: nn.Linear
) -> None:
    readout = Readout("soft_words", K, 0.5, 0.25)
    readout(*states, head, head.weight)[0][:, 1].square().sum().backward()
    assert readout.soft_word_share.grad is not None
    assert (readout.soft_word_share.grad[:, 0] != 0).tolist() == [False, True, False]
