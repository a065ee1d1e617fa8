"""Articles, plurals, numbers, and titles of pictures."""

from __future__ import annotations

import pytest

from compressor.default_model.data import english
from compressor.default_model.data.english import counted, lookup, plural, with_article


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("A red apple.", "apple"),
        ("an_apple", "apple"),
        ("A great blue heron.", "heron"),
        ("A great apple.", None),  # "great" may change the thing
        ("A sea lion.", "sea lion"),
        ("Guitar2", "guitar"),
        ("A pair of glasses.", "pair of glasses"),
        ("A peacock (a male peafowl).", "peacock"),
        ("A spider playing soccer.", None),
        ("A fire engine", "fire truck"),
        ("", None),
    ],
)
def test_lookup_keeps_the_thing_and_drops_only_what_does_not_change_it(
    title: str, name: str | None
) -> None:
    found = lookup(title)
    assert (found.text if found else None) == name


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


def test_counted() -> None:
    assert counted(1, "axe") == "an axe"
    assert counted(4, "bunch of grapes") == "four bunches of grapes"


def test_every_name_of_the_table_is_found_by_its_own_text() -> None:
    assert len(english.names()) > 300
    for text, name in english.names().items():
        assert lookup(text) == name, text
