"""TODO."""

from __future__ import annotations

import torch
from torch import nn

from compressor.fwd2bot.model import SummaryTokenEmbedding


def embedding() -> SummaryTokenEmbedding:
    torch.manual_seed(0)
    return SummaryTokenEmbedding(nn.Embedding(10, 4), 3)


def test_words_are_the_models_own_and_ids_behind_them_are_summary_tokens() -> None:
    made = embedding()
    with torch.no_grad():
        made.summary.copy_(torch.randn(3, 4))
    ids = torch.tensor([[0, 9, 10, 12], [11, 3, 3, 10]])
    found = made(ids)
    assert made.first_summary_id == 10
    expected = torch.cat([made.words.weight[[0, 9]], made.summary[[0, 2]]])
    torch.testing.assert_close(found[0], expected)
    torch.testing.assert_close(found[1, 0], made.summary[1])
    assert made.weight is made.words.weight


def test_gradients_reach_only_the_rows_that_were_read() -> None:
    made = embedding()
    made.words.weight.requires_grad_(False)
    made(torch.tensor([[2, 11]])).sum().backward()
    assert made.summary.grad is not None
    assert made.summary.grad.abs().sum(1).tolist() == [0, 4, 0]


def test_starts_at_the_mean_word_in_the_words_type() -> None:
    made = SummaryTokenEmbedding(nn.Embedding(10, 4, dtype=torch.bfloat16), 2)
    made.initialise_from_words()
    torch.testing.assert_close(
        made.summary.detach(), made.words.weight.float().mean(0).expand(2, 4)
    )
    assert made(torch.tensor([[0, 10]])).dtype == torch.bfloat16
