"""The word supervision against a loop over plain numbers."""

from __future__ import annotations

import torch

from compressor.default_model.training.word_supervision import Target, word_loss
from tests.compressor.training.test_losses import log_softmax


def test_words_weigh_each_known_word() -> None:
    logits = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0))
    known = [[Target(0, 4, 1.0), Target(2, 1, 0.25), Target(2, 3, 0.75)], []]
    expected = -(
        log_softmax(logits[0, 0].tolist(), 4)
        + 0.25 * log_softmax(logits[0, 2].tolist(), 1)
        + 0.75 * log_softmax(logits[0, 2].tolist(), 3)
    )
    torch.testing.assert_close(word_loss(logits, known, 2.0), torch.tensor(expected / 2))


def test_nothing_known_is_no_loss_and_no_gradient() -> None:
    logits = torch.randn(2, 3, 5, requires_grad=True)
    loss = word_loss(logits, [[], []], 1.0)
    loss.backward()
    assert loss == 0
    assert logits.grad.abs().sum() == 0
