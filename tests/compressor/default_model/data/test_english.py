"""Articles and plurals."""

from __future__ import annotations

import pytest

from compressor.default_model.data.english import plural, with_article


@pytest.mark.parametrize(
    ("noun", "expected"),
    [
        ("apple", "an apple"),
        ("unicycle", "a unicycle"),
        ("umbrella", "an umbrella"),
        ("hourglass", "an hourglass"),
        ("house finch", "a house finch"),
        ("European gallinule", "a European gallinule"),
        ("Old English sheepdog", "an Old English sheepdog"),
        ("uniform", "a uniform"),
    ],
)
def test_article(noun: str, expected: str) -> None:
    assert with_article(noun) == expected


@pytest.mark.parametrize(
    ("noun", "expected"),
    [
        ("apple", "apples"),
        ("pair of scissors", "pairs of scissors"),
        ("loaf of bread", "loaves of bread"),
        ("box", "boxes"),
        ("butterfly", "butterflies"),
        ("monkey", "monkeys"),
        ("computer mouse", "computer mice"),
        ("guinea fowl", "guinea fowl"),
        ("goldfish", "goldfish"),
        ("potato", "potatoes"),
        ("yo-yo", "yo-yos"),
        ("high-heeled shoe", "high-heeled shoes"),
    ],
)
def test_plural(noun: str, expected: str) -> None:
    assert plural(noun) == expected
