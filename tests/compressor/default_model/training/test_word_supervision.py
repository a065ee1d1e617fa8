"""The word supervision: its loss against a loop over plain numbers, and its targets."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest
import torch
from PIL import Image

from compressor.default_model.data.photos import Photo
from compressor.default_model.data.scenes import Scene
from compressor.default_model.training.word_supervision import (
    Target,
    targets,
    word_loss,
)
from compressor.default_model.vocabulary import name_token_ids
from compressor.training.sample import QA, Sample
from tests.compressor.default_model.training.scenes import placed, scene
from tests.compressor.tiny import tiny_tokenizer
from tests.compressor.training.test_losses import log_softmax

TOKENIZER = tiny_tokenizer()


def words_at_positions(
    origin: Photo | Scene, caption_words: frozenset[str] = frozenset()
) -> dict[int, dict[str, float]]:
    """Position → word → weight; the weights of a position sum to 1."""
    questions = (QA("?", "!", "naming"),)
    sample = Sample(
        Image.new("RGB", (1, 1)),
        questions,
        "",
        "scenes",
        origin,
    )
    words: dict[int, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for target in targets(sample, TOKENIZER, caption_words):
        words[target.position][TOKENIZER.decode([target.token_id])] += target.weight
    for weights in words.values():
        assert sum(weights.values()) == pytest.approx(1)
    return words


def tokens(text: str) -> set[str]:
    return {TOKENIZER.decode([token]) for token in TOKENIZER(text)["input_ids"]}


def test_words_weigh_each_known_word() -> None:
    logits = torch.randn(
        2,
        3,
        5,
        generator=torch.Generator().manual_seed(0),
    )
    known = [[Target(0, 4, 1.0), Target(2, 1, 0.25), Target(2, 3, 0.75)], []]
    expected = -(
        log_softmax(logits[0, 0].tolist(), 4)
        + 0.25 * log_softmax(logits[0, 2].tolist(), 1)
        + 0.75 * log_softmax(logits[0, 2].tolist(), 3)
    )
    torch.testing.assert_close(
        word_loss(logits, known, 2.0), torch.tensor(expected / 2)
    )


def test_nothing_known_is_no_loss_and_no_gradient() -> None:
    logits = torch.randn(2, 3, 5, requires_grad=True)
    loss = word_loss(logits, [[], []], 1.0)
    loss.backward()
    assert loss == 0
    assert logits.grad.abs().sum() == 0


def test_a_name_is_said_at_the_first_positions() -> None:
    words = words_at_positions(Photo(Path("a.jpg"), "coffee mug", ()))
    ids = name_token_ids("coffee mug", TOKENIZER)
    assert set(words) == {0, 1, 2, 3}
    for position, token in enumerate(ids):
        assert list(words[position]) == [TOKENIZER.decode([token])]


def test_a_name_is_its_first_three_tokens_and_its_last() -> None:
    short = TOKENIZER(" cat")["input_ids"]
    assert len(short) <= 2
    assert name_token_ids("cat", TOKENIZER) == [
        short[0],
        short[-1],
        short[-1],
        short[-1],
    ]
    long = TOKENIZER(" xylophone")["input_ids"]
    assert len(long) > 4
    assert name_token_ids("xylophone", TOKENIZER) == [*long[:3], long[-1]]


def test_a_captioned_photograph_says_its_frequent_words() -> None:
    photo = Photo(
        Path("a.jpg"),
        None,
        ("A man and a ball", "A man runs"),
    )
    words = words_at_positions(photo, frozenset({"man", "ball", "runs"}))
    assert set(words) == {0, 4, 5, 6, 7}
    assert words[0] == words[4]
    assert len(words[7]) == 3


def test_a_photograph_without_a_frequent_word_has_no_targets() -> None:
    photo = Photo(Path("a.jpg"), None, ("Nothing known",))
    assert words_at_positions(photo) == {}


def test_a_scene_says_the_largest_name_all_objects_their_number_and_the_background() -> (
    None
):
    words = words_at_positions(
        scene(
            placed("apple", (0, 0, 9, 9)),
            placed("fish", (20, 0, 40, 9)),
            placed("fish", (50, 0, 59, 9)),
        )
    )
    assert set(words) == set(range(8))
    assert list(words[0]) == [TOKENIZER.decode([name_token_ids("fish", TOKENIZER)[0]])]
    assert set(words[4]) == tokens(" apple")
    assert set(words[5]) == set(words[6]) == tokens(" fish")
    assert set(words[7]) == tokens(" three blue")


def test_positions_without_an_object_have_no_targets() -> None:
    words = words_at_positions(scene(placed("apple", (0, 0, 9, 9))))
    assert set(words) == {0, 1, 2, 3, 4, 7}
