"""Input embeddings of the summary tokens behind the vocabulary."""

from __future__ import annotations

import torch
from torch import nn

from compressor.fwd2bot.summary_tokens import SummaryTokenEmbedding


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


def test_summary_tokens_start_apart_around_the_mean_word() -> None:
    words = nn.Embedding(500, 64, dtype=torch.bfloat16)
    made, again = SummaryTokenEmbedding(words, 8), SummaryTokenEmbedding(words, 8)
    made.start_around_mean_word()
    torch.manual_seed(99)
    again.start_around_mean_word()
    start = made.summary.detach()
    assert torch.equal(start, again.summary.detach())
    spread = words.weight.detach().float().std()
    offsets = start - words.weight.detach().float().mean(0)
    torch.testing.assert_close(offsets.std(), spread / 2, rtol=0.1, atol=0)
    assert (
        torch.pdist(start).min() > spread
    )  # per dimension they are about 0.7 deviations apart


def test_all_may_start_at_the_mean_word_itself() -> None:
    made = SummaryTokenEmbedding(nn.Embedding(10, 4, dtype=torch.bfloat16), 2)
    made.start_at_mean_word()
    mean = made.words.weight.float().mean(0)
    torch.testing.assert_close(made.summary.detach(), mean.expand(2, 4))
    assert made(torch.tensor([[0, 10]])).dtype == torch.bfloat16
