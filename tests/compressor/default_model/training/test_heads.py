"""Labels for the projector's heads, and what summary positions should say."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from compressor.default_model.data.photos import Photo
from compressor.default_model.data.scenes import Placed, Scene
from compressor.default_model.training.caption_heads import caption_words
from compressor.default_model.training.heads import box, heat
from compressor.default_model.training.word_supervision import targets
from compressor.default_model.vocabulary import name_token_ids
from compressor.training.sample import QA, Sample
from tests.compressor.tiny import tiny_tokenizer

TOKENIZER = tiny_tokenizer()


def placed(name: str, box: tuple[int, int, int, int], width: int = 80, height: int = 40) -> Placed:
    left, top, right, bottom = box
    return Placed(
        name, "thing", None, box, ((left + right) / 2 / width, (top + bottom) / 2 / height)
    )


def scene(*objects: Placed, background: str = "blue") -> Scene:
    return Scene(Image.new("RGB", (80, 40), background), background, objects)


def test_boxes_are_shares_of_the_picture() -> None:
    assert box(placed("apple", (20, 10, 40, 30))) == pytest.approx(
        (30 / 80, 20 / 40, 20 / 80, 20 / 40)
    )


def test_heat_is_one_at_each_centre_and_falls_off_with_the_size() -> None:
    # 80 × 40 pixels in 8 × 8 places of 10 × 5.
    small, large = placed("apple", (10, 5, 20, 10)), placed("fish", (40, 10, 80, 40))
    found = heat(scene(small, large), 8)
    assert (found == 1).nonzero().tolist() == [[1, 1], [5, 6]]
    assert found[1, 2] < found[5, 7] < 1
    assert heat(scene(), 8).max() == 0


def test_frequent_words_of_captions_without_the_empty_ones() -> None:
    captions = ("A man on the grass", "The man runs")
    photos = [
        Photo(Path(f"{n}.jpg"), None, captions if n < 20 else ("A rare umbrella",))
        for n in range(21)
    ]
    assert caption_words(photos) == ("grass", "man", "runs")  # equally frequent


def said(
    sample_of: Photo | Scene, words: frozenset[str] = frozenset()
) -> dict[int, dict[str, float]]:
    """Position → word → weight."""
    sample = Sample(Image.new("RGB", (1, 1)), (QA("?", "!", "naming"),), "", "scenes", sample_of)
    found: dict[int, dict[str, float]] = {}
    for each in targets(sample, TOKENIZER, words):
        of_position = found.setdefault(each.position, {})
        word = TOKENIZER.decode([each.token_id])
        of_position[word] = of_position.get(word, 0) + each.weight
    for weights in found.values():
        assert sum(weights.values()) == pytest.approx(1)
    return found


def test_a_name_is_said_at_the_first_positions() -> None:
    found = said(Photo(Path("a.jpg"), "coffee mug", ()))
    ids = name_token_ids("coffee mug", TOKENIZER)
    assert [list(found[position]) for position in range(4)] == [
        [TOKENIZER.decode([each])] for each in ids
    ]
    assert set(found) == {0, 1, 2, 3}


def test_a_name_is_its_first_three_tokens_and_its_last() -> None:
    ids = TOKENIZER(" cat")["input_ids"]
    assert len(ids) <= 2
    assert name_token_ids("cat", TOKENIZER) == [ids[0], ids[-1], ids[-1], ids[-1]]
    ids = TOKENIZER(" xylophone")["input_ids"]
    assert len(ids) > 4
    assert name_token_ids("xylophone", TOKENIZER) == [*ids[:3], ids[-1]]


def test_a_captioned_photograph_says_its_frequent_words() -> None:
    found = said(
        Photo(Path("a.jpg"), None, ("A man and a ball", "A man runs")),
        frozenset({"man", "ball", "runs"}),
    )
    assert set(found) == {0, 4, 5, 6, 7}
    assert found[0] == found[4]
    assert len(found[7]) == 3
    assert said(Photo(Path("a.jpg"), None, ("Nothing known",)), frozenset()) == {}


def test_a_scene_says_the_largest_name_all_from_left_to_right_number_and_background() -> None:
    found = said(
        scene(
            placed("apple", (0, 0, 9, 9)),
            placed("fish", (20, 0, 40, 9)),
            placed("fish", (50, 0, 59, 9)),
        )
    )

    def tokens(text: str) -> set[str]:
        return {TOKENIZER.decode([each]) for each in TOKENIZER(text)["input_ids"]}

    assert set(found) == set(range(8))
    assert list(found[0]) == [TOKENIZER.decode([name_token_ids("fish", TOKENIZER)[0]])]
    assert set(found[4]) == tokens(" apple")
    assert set(found[5]) == set(found[6]) == tokens(" fish")
    assert set(found[7]) == tokens(" three blue")
    alone = said(scene(placed("apple", (0, 0, 9, 9))))
    assert set(alone) == {0, 1, 2, 3, 4, 7}  # where there is no thing, nothing is known
