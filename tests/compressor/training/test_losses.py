"""Losses against loops over plain numbers."""

from __future__ import annotations

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compressor.training.step import info_nce, next_token_loss


def log_softmax(scores: list[float], place: int) -> float:
    top = max(scores)
    return scores[place] - top - math.log(sum(math.exp(score - top) for score in scores))


@given(st.integers(2, 6), st.integers(0, 10_000), st.floats(0, 3))
@settings(max_examples=30, deadline=None)
def test_contrastive_is_symmetric_infonce(size: int, seed: int, logit_scale: float) -> None:
    draw = torch.Generator().manual_seed(seed)
    images, texts = (
        torch.nn.functional.normalize(torch.randn(size, 5, generator=draw), dim=-1)
        for _ in range(2)
    )
    names = torch.randint(3, (size,), generator=draw).tolist()
    same = torch.tensor([[one == other for other in names] for one in names])
    found = info_nce(images, texts, torch.tensor(logit_scale), same)
    total = 0.0
    for row in range(size):
        others = [row] + [other for other in range(size) if names[other] != names[row]]
        to_texts = [float(images[row] @ texts[other]) * math.exp(logit_scale) for other in others]
        to_images = [float(texts[row] @ images[other]) * math.exp(logit_scale) for other in others]
        total -= (log_softmax(to_texts, 0) + log_softmax(to_images, 0)) / (2 * size)
    torch.testing.assert_close(found, torch.tensor(total), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(info_nce(texts, images, torch.tensor(logit_scale), same), found)


def test_the_inverse_temperature_ends_at_a_hundred() -> None:
    images, texts = torch.eye(3), torch.eye(3).roll(1, 0) * 0.1
    same = torch.eye(3, dtype=torch.bool)
    hot, hotter = (
        info_nce(images, texts, torch.tensor(scale), same) for scale in (math.log(100), 9.0)
    )
    torch.testing.assert_close(hot, hotter)


def test_equal_captions_are_no_negatives() -> None:
    embeddings = torch.ones(4, 1)
    every = torch.ones(4, 4, dtype=torch.bool)
    assert info_nce(embeddings, embeddings, torch.tensor(1.0), every) == 0
    torch.testing.assert_close(
        info_nce(embeddings, embeddings, torch.tensor(1.0), torch.eye(4, dtype=torch.bool)),
        torch.tensor(math.log(4)),
    )


def test_autoregressive_is_the_mean_over_tokens() -> None:
    logits = torch.randn(6, 5, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([0, 4, 2, 2, 1, 3])
    expected = (
        -sum(
            log_softmax(row.tolist(), int(label)) for row, label in zip(logits, labels, strict=True)
        )
        / 6
    )
    torch.testing.assert_close(next_token_loss(logits, labels, 6), torch.tensor(expected))
