from __future__ import annotations

import pytest

from compressor.evaluation.cider import cider_d, words

CANDIDATES = [
    "A dog runs in the snow.",
    "Two men play a game.",
    "a dog dog dog dog",
]
REFERENCES = [
    ["a brown dog runs through the snow", "a dog is running in snow"],
    ["two men are playing a game of chess outside", "men play"],
    ["a white dog sleeps", "the dog lies on a sofa"],
]


def test_the_score_is_that_of_the_reference_implementation() -> None:
    """pycocoevalcap 1.2, `CiderScorer(n=4, sigma=6.0)` over the same words."""
    assert cider_d(CANDIDATES, REFERENCES) == pytest.approx(1.5107070276708532)


def test_the_very_captions_score_ten() -> None:
    captions = ["a red kite in the sky", "two cats on a sofa"]
    assert cider_d(captions, [[caption] for caption in captions]) == pytest.approx(10)


def test_case_and_punctuation_do_not_count() -> None:
    assert words("A t-shirt, the man's; OK?") == ["a", "t-shirt", "the", "man's", "ok"]
    upper = [text.upper() + "!" for text in CANDIDATES]
    assert cider_d(upper, REFERENCES) == cider_d(CANDIDATES, REFERENCES)


def test_an_empty_caption_scores_nothing_and_no_image_is_refused() -> None:
    assert cider_d(["", ""], [["a cat"], ["a dog"]]) == 0
    with pytest.raises(ValueError, match="no captions"):
        cider_d([], [])
