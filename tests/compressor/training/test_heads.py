"""Labels for the projector's heads, and what summary positions should say."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from compressor.training.data.mixture import Sample
from compressor.training.data.photos import Photo
from compressor.training.data.questions import QA
from compressor.training.data.scenes import Placed, Scene
from compressor.training.heads import caption_words, cell_labels, kept_from_heads
from compressor.training.targets import targets
from compressor.words import name_token_ids
from tests.compressor.tiny import tiny_tokenizer

NOTHING = 99
TOKENIZER = tiny_tokenizer()


def placed(name: str, box: tuple[int, int, int, int], width: int = 80, height: int = 40) -> Placed:
    left, top, right, bottom = box
    return Placed(name, "thing", None, box, ((left + right) / 2 / width, (top + bottom) / 2 / height))


def scene(*objects: Placed, background: str = "blue") -> Scene:
    return Scene(Image.new("RGB", (80, 40), background), background, objects)


def test_cells_are_labelled_by_what_covers_them() -> None:
    # 80 × 40 pixels in 4 × 4 cells of 20 × 10.
    both = scene(placed("apple", (20, 10, 40, 20)), placed("fish", (46, 20, 80, 40)))
    found = cell_labels(both, {"apple": 5, "fish": 6}, NOTHING, 4)
    assert found.view(4, 4).tolist() == [
        [NOTHING, NOTHING, NOTHING, NOTHING],
        [NOTHING, 5, NOTHING, NOTHING],
        [NOTHING, NOTHING, 6, 6],
        [NOTHING, NOTHING, 6, 6],
    ]


def test_a_cell_half_covered_may_be_either() -> None:
    found = cell_labels(scene(placed("apple", (12, 0, 28, 10))), {"apple": 5}, NOTHING, 4).view(4, 4)
    assert found[0].tolist() == [-100, -100, NOTHING, NOTHING]  # 40 % of each
    found = cell_labels(scene(placed("apple", (17, 0, 23, 10))), {"apple": 5}, NOTHING, 4).view(4, 4)
    assert found[0].tolist() == [NOTHING, NOTHING, NOTHING, NOTHING]  # 15 % of each


def test_frequent_words_of_captions_without_the_empty_ones() -> None:
    captions = ("A man on the grass", "The man runs")
    photos = [Photo(Path(f"{n}.jpg"), None, captions if n < 20 else ("A rare umbrella",)) for n in range(21)]
    assert set(caption_words(photos)) == {"man", "grass", "runs"}


def test_about_a_fifth_of_the_names_is_kept_from_the_heads() -> None:
    kept = sum(kept_from_heads(f"thing {number}") for number in range(2000))
    assert 320 < kept < 480
    assert kept_from_heads("umbrella") == kept_from_heads("umbrella")


def said(sample_of: Photo | Scene, words: frozenset[str] = frozenset()) -> dict[int, dict[str, float]]:
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


def test_a_name_is_said_at_the_first_three_positions() -> None:
    found = said(Photo(Path("a.jpg"), "coffee mug", ()))
    ids = name_token_ids("coffee mug", TOKENIZER)
    assert [list(found[position]) for position in range(3)] == [[TOKENIZER.decode([each])] for each in ids]
    assert set(found) == {0, 1, 2}


def test_a_short_name_repeats_its_last_token() -> None:
    ids = TOKENIZER(" cat")["input_ids"]
    assert len(ids) <= 2
    assert name_token_ids("cat", TOKENIZER) == [ids[0], ids[-1], ids[-1]]


def test_a_captioned_photograph_says_its_frequent_words() -> None:
    found = said(Photo(Path("a.jpg"), None, ("A man and a ball", "A man runs")), frozenset({"man", "ball", "runs"}))
    assert set(found) == {0, 3, 4, 7} or set(found) == {0, 3, 7}
    assert len(found[0]) == 1
    assert said(Photo(Path("a.jpg"), None, ("Nothing known",)), frozenset()) == {}


def test_a_scene_says_names_number_and_background() -> None:
    found = said(scene(placed("apple", (0, 0, 9, 9)), placed("fish", (20, 0, 29, 9)), placed("fish", (40, 0, 49, 9))))

    def tokens(text: str) -> set[str]:
        return {TOKENIZER.decode([each]) for each in TOKENIZER(text)["input_ids"]}

    assert set(found) == set(range(8))
    assert list(found[0]) == [TOKENIZER.decode([name_token_ids("fish", TOKENIZER)[0]])]  # the most frequent
    assert set(found[3]) == tokens(" apple")
    assert set(found[4]) == set(found[7]) == tokens(" empty")
    assert set(found[5]) == tokens(" three")
    assert set(found[6]) == tokens(" blue")
