"""Labels for the projector's heads, and what summary positions should say."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest
from PIL import Image

from compressor.default_model.data.photos import Photo
from compressor.default_model.data.scenes import Placed, Scene
from compressor.default_model.training.caption_heads import MIN_MENTIONS, caption_words
from compressor.default_model.training.heads import box, centre_heatmap
from compressor.default_model.training.word_supervision import targets
from compressor.default_model.vocabulary import name_token_ids
from compressor.training.sample import QA, Sample
from tests.compressor.tiny import tiny_tokenizer

TOKENIZER = tiny_tokenizer()
WIDTH, HEIGHT = 80, 40


def placed(name: str, box: tuple[int, int, int, int]) -> Placed:
    left, top, right, bottom = box
    centre = ((left + right) / 2 / WIDTH, (top + bottom) / 2 / HEIGHT)
    return Placed(name, "thing", None, box, centre)


def scene(*objects: Placed) -> Scene:
    return Scene(
        Image.new("RGB", (WIDTH, HEIGHT), "blue"),
        "blue",
        objects,
    )


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


def test_boxes_are_shares_of_the_picture() -> None:
    expected = (30 / WIDTH, 20 / HEIGHT, 20 / WIDTH, 20 / HEIGHT)
    assert box(placed("apple", (20, 10, 40, 30))) == pytest.approx(expected)


def test_the_heatmap_is_one_at_each_centre_and_falls_off_with_the_size() -> None:
    # 80 × 40 pixels in 8 × 8 places of 10 × 5.
    small, large = placed("apple", (10, 5, 20, 10)), placed("fish", (40, 10, 80, 40))
    heatmap = centre_heatmap(scene(small, large), 8)
    assert (heatmap == 1).nonzero().tolist() == [[1, 1], [5, 6]]
    assert heatmap[1, 2] < heatmap[5, 7] < 1
    assert centre_heatmap(scene(), 8).max() == 0


def test_frequent_words_of_captions_without_the_empty_ones() -> None:
    frequent = Photo(
        Path("a.jpg"),
        None,
        ("A man on the grass", "The man runs"),
    )
    rare = Photo(Path("b.jpg"), None, ("A rare umbrella",))
    photos = [frequent] * MIN_MENTIONS + [rare] * (MIN_MENTIONS - 1)
    assert caption_words(photos) == ("grass", "man", "runs")  # equally frequent


def test_a_name_is_said_at_the_first_positions() -> None:
    words = words_at_positions(Photo(Path("a.jpg"), "coffee mug", ()))
    ids = name_token_ids("coffee mug", TOKENIZER)
    assert set(words) == {0, 1, 2, 3}
    for position, token in enumerate(ids):
        assert list(words[position]) == [TOKENIZER.decode([token])]


def test_a_name_is_its_first_three_tokens_and_its_last() -> None:
    short = TOKENIZER(" cat")["input_ids"]
    assert len(short) <= 2
    assert name_token_ids("cat", TOKENIZER) == [short[0], short[-1], short[-1], short[-1]]
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


def test_a_scene_says_the_largest_name_all_objects_their_number_and_the_background() -> None:
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
