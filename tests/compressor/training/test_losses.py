"""Losses against loops over plain numbers."""

from __future__ import annotations

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from compressor.training.step import info_nce, next_token_loss


def log_softmax(scores: list[float], place: int) -> float:
    top = max(scores)
    exponentials = [math.exp(score - top) for score in scores]
    return scores[place] - top - math.log(sum(exponentials))


def same_names(names: list[int]) -> torch.Tensor:
    name = torch.tensor(names)
    return name.unsqueeze(0) == name.unsqueeze(1)


sizes = st.integers(2, 6)
seeds = st.integers(0, 10_000)
logit_scales = st.floats(0, 3)


@given(sizes, seeds, logit_scales)
@settings(max_examples=30)
def test_contrastive_is_symmetric_infonce(
    size: int, seed: int, logit_scale: float
) -> None:
    draw = torch.Generator().manual_seed(seed)
    images = normalize(torch.randn(size, 5, generator=draw), dim=-1)
    texts = normalize(torch.randn(size, 5, generator=draw), dim=-1)
    names = torch.randint(3, (size,), generator=draw).tolist()
    scale = torch.tensor(logit_scale)
    loss = info_nce(images, texts, scale, same_names(names))

    similarities = images @ texts.T * math.exp(logit_scale)
    total = 0.0
    for row in range(size):
        negatives = [other for other in range(size) if names[other] != names[row]]
        compared = [row, *negatives]
        to_texts = similarities[row, compared].tolist()
        to_images = similarities[compared, row].tolist()
        total -= log_softmax(to_texts, 0)
        total -= log_softmax(to_images, 0)
    expected = torch.tensor(total / (2 * size))
    torch.testing.assert_close(loss, expected, atol=1e-4, rtol=1e-4)
    swapped = info_nce(texts, images, scale, same_names(names))
    torch.testing.assert_close(swapped, loss)


def test_the_inverse_temperature_ends_at_a_hundred() -> None:
    images = torch.eye(3)
    texts = images.roll(1, 0) * 0.1
    same = torch.eye(3, dtype=torch.bool)
    limit = torch.tensor(math.log(100))
    beyond = torch.tensor(9.0)
    at_limit = info_nce(images, texts, limit, same)
    torch.testing.assert_close(info_nce(images, texts, beyond, same), at_limit)


def test_equal_captions_are_no_negatives() -> None:
    embeddings = torch.ones(4, 1)
    scale = torch.tensor(1.0)
    all_same = torch.ones(4, 4, dtype=torch.bool)
    assert info_nce(embeddings, embeddings, scale, all_same) == 0
    all_different = torch.eye(4, dtype=torch.bool)
    loss = info_nce(embeddings, embeddings, scale, all_different)
    torch.testing.assert_close(loss, torch.tensor(math.log(4)))


def test_autoregressive_is_the_mean_over_tokens() -> None:
    draw = torch.Generator().manual_seed(1)
    logits = torch.randn(6, 5, generator=draw)
    labels = [0, 4, 2, 2, 1, 3]
    expected = 0.0
    for row, label in zip(logits.tolist(), labels, strict=True):
        expected -= log_softmax(row, label)
    loss = next_token_loss(logits, torch.tensor(labels), 6)
    torch.testing.assert_close(loss, torch.tensor(expected / 6))
