"""The text in pictures: its form in the metadata, and which questions are about it."""

from __future__ import annotations

import pytest

from index.filters import (
    MAX_TEXT_CHARACTERS,
    Condition,
    Filter,
    metadata_terms,
    parse_filter,
)
from service.use_cases.picture_text import (
    MAX_TEXT_BYTES,
    is_about_text,
    picture_text,
    text_metadata,
    with_picture_text,
    with_text,
)


def test_lines_stay_as_read_and_words_are_compared() -> None:
    metadata = text_metadata(["STOP!", "Rue de l\u2019Éte\u0301", "KLE-53"])
    assert metadata["text"] == {
        "lines": ["STOP!", "Rue de l\u2019Été", "KLE-53"],
        "words": ["stop", "rue", "de", "l", "été", "kle", "53"],
    }
    assert picture_text(metadata) == "STOP! Rue de l\u2019Été KLE-53"
    assert text_metadata([]) == {}


def test_a_page_of_print_is_cut() -> None:
    (text,) = text_metadata(["née " * 100] * 100).values()
    assert all(len(line) <= MAX_TEXT_CHARACTERS for line in text["lines"])
    total = sum(len(line.encode()) for line in text["lines"])
    assert MAX_TEXT_BYTES - 400 < total <= MAX_TEXT_BYTES


@pytest.mark.parametrize(
    "metadata",
    [{}, {"text": "mine"}, {"text": {"lines": "x"}}, {"text": {"lines": [3, None]}}],
)
def test_what_clients_write_under_the_key_is_no_text(
    metadata: dict[str, object],
) -> None:
    assert picture_text(metadata) == ""


def test_a_query_matches_the_pictures_that_have_its_words() -> None:
    terms = metadata_terms({**text_metadata(["Main Street 12"]), "year": 2020})
    matching = with_text(None, "main street")
    assert matching is not None
    assert matching.matches(terms)
    other = with_text(None, "main road")
    assert other is not None
    assert not other.matches(terms)
    where = Filter((Condition("year", (("eq", 2021),)),))
    both = with_text(where, "main street")
    assert both is not None
    assert not both.matches(terms)
    alternatives = with_text(parse_filter({"or": [{"year": 1}, {"year": 2}]}), "street")
    assert alternatives is not None
    street = metadata_terms(text_metadata(["Main Street"]))
    assert not alternatives.matches([*street, ("year", 3)])
    assert alternatives.matches([*street, ("year", 2)])
    assert with_text(None, "\u2192") is None
    assert with_text(None, " ".join(map(str, range(40)))) is None


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("What does the sign say?", True),
        ("Read the text.", True),
        ("What is WRITTEN on the wall", True),
        ("What is the number plate of the car?", True),
        ("Which letters are on the shirt?", True),
        ("What is the sign?", True),
        ("Does the sign say stop?", True),
        ("Is there a sign?", False),
        ("What color is the sign?", False),
        ("How many letters are there?", False),
        ("Describe the picture in a few words.", False),
        ("What is the dog doing?", False),
        ("What number is on the plate?", False),
        ("What is on the reading desk?", False),
        ("Is there a signal?", False),
    ],
)
def test_the_words_of_a_question_say_whether_it_is_about_text(
    question: str, expected: bool
) -> None:
    assert is_about_text(question) is expected


def test_the_pictures_share_what_the_model_is_told() -> None:
    one = with_picture_text(["STOP"], "What does it say?")
    assert one == 'The picture says "STOP". What does it say?'
    many = with_picture_text(["a" * 5000, "b" * 5000], "What?")
    assert len(many) < 1100
    assert "aaa" in many
    assert "bbb" in many
