from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from compressor.errors import RecipeInvalid
from compressor.training.config import TrainConfig
from compressor.training.negative_queue import NegativeQueue, caption_keys
from compressor.training.step import Earlier, info_nce


def embeddings(count: int, seed: int) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(count, 5, generator=draw), dim=-1)


def test_the_queue_keeps_the_last_pairs_and_overwrites_the_oldest() -> None:
    queue = NegativeQueue(3, 2)
    assert len(queue.pairs().keys) == 0
    for number in range(5):
        rows = torch.full((1, 2), float(number))
        queue.push(rows, -rows, torch.tensor([number]))
    pairs = queue.pairs()
    assert sorted(pairs.keys.tolist()) == [2, 3, 4]
    torch.testing.assert_close(pairs.images[:, 0], pairs.keys.float())
    torch.testing.assert_close(pairs.texts, -pairs.images)


def test_more_pairs_than_there_is_room_for_leave_the_last() -> None:
    queue = NegativeQueue(2, 1)
    queue.push(torch.zeros(5, 1), torch.zeros(5, 1), torch.arange(5))
    assert sorted(queue.pairs().keys.tolist()) == [3, 4]


def test_pairs_are_a_copy() -> None:
    """The graph of a loss still needs them when the next pairs come in."""
    queue = NegativeQueue(1, 1)
    queue.push(torch.ones(1, 1), torch.ones(1, 1), torch.tensor([1]))
    before = queue.pairs()
    queue.push(torch.zeros(1, 1), torch.zeros(1, 1), torch.tensor([2]))
    assert before.keys.tolist() == [1]
    assert before.images.item() == 1


def test_keys_are_equal_for_equal_captions_alone() -> None:
    first, second, third = caption_keys(["a dog", "a cat", "a dog"]).tolist()
    assert first == third
    assert first != second


def test_earlier_pairs_are_negatives_unless_their_captions_are_equal() -> None:
    images, texts = embeddings(3, 1), embeddings(3, 2)
    older_images, older_texts = embeddings(4, 3), embeddings(4, 4)
    same = torch.zeros(3, 4, dtype=torch.bool)
    same[1, 2] = True
    scale = torch.tensor(1.0)
    earlier = Earlier(older_images, older_texts, same)
    loss = info_nce(images, texts, scale, earlier=earlier)

    total = torch.zeros(())
    for own, other, older in (
        (images, texts, older_texts),
        (texts, images, older_images),
    ):
        for row in range(3):
            negatives = [older[column] for column in range(4) if not same[row, column]]
            compared = torch.stack([*other, *negatives])
            scores = compared @ own[row] * math.e
            total += cross_entropy(scores, torch.tensor(row))
    torch.testing.assert_close(loss, total / 6)


def test_a_queue_needs_a_contrastive_loss() -> None:
    with pytest.raises(RecipeInvalid, match="contrastive_queue needs"):
        TrainConfig(contrastive_queue=8, contrastive_weight=0.0)
