"""What is read of one caption."""

from __future__ import annotations

import pytest

from compressor.default_model.data.captions.parser import Mention, parse, tidied
from compressor.default_model.data.captions.words import gerund, verbs


def only(caption: str) -> Mention:
    (mention,) = parse(caption).mentions
    return mention


def actions(caption: str) -> list[list[str]]:
    return [
        [each.text for each in mention.actions] for mention in parse(caption).mentions
    ]


def test_a_caption_becomes_a_sentence() -> None:
    assert tidied("a dog 's ball , in the snow .") == "A dog's ball, in the snow."
    assert tidied(" . ") == ""


@pytest.mark.parametrize(
    ("caption", "said"),
    [
        ("A dog runs through the snow .", ["running through the snow"]),
        ("A dog is running through deep snow", ["running through deep snow"]),
        ("Two dogs run on a beach .", ["running on a beach"]),
        ("A group of girls stands on a beach .", ["standing on a beach"]),
        ("A man sits on a bench reading a newspaper .",
         ["sitting on a bench", "reading a newspaper"]),
        ("A boy tries to catch a ball .", ["trying to catch a ball"]),
        ("A boy sits down .", ["sitting down"]),
        ("A boy slides down the hill .", ["sliding down the hill"]),
        ("A dog runs to catch a ball .", ["running"]),
        ("A boy plays with a bat and a ball .", ["playing with a bat"]),
        ("A man holds a bat and a ball .", ["holding a bat and a ball"]),
        ("A man stands in front of a house .", ["standing in front of a house"]),
        ("The two dogs play with each other .", ["playing with each other"]),
        ("A man runs in a red shirt .", ["running"]),
    ],
)  # fmt: skip
def test_actions(caption: str, said: list[str]) -> None:
    assert actions(caption)[0] == said


@pytest.mark.parametrize(
    "caption",
    [
        "A man holds him .",  # a pronoun that nobody knows
        "A man wears .",
        "A statue of a man runs .",
        "A toy dog runs .",
        "A dog park .",
        "A man is holding the red .",
    ],
)
def test_a_clause_that_does_not_parse_is_dropped(caption: str) -> None:
    assert [action for each in actions(caption) for action in each] == []


def test_a_verb_behind_somebody_else_is_theirs_only_where_it_is_clear() -> None:
    assert actions("A man with a dog runs .") == [["running"], []]
    assert actions("A man watches a dog running in the snow .") == [
        ["watching a dog"],
        ["running in the snow"],
    ]


def test_numbers_and_descriptions() -> None:
    man = only("A man in a red shirt and blue jeans .")
    assert (man.count, man.description, man.worn) == (
        1,
        "man",
        ["a red shirt", "blue jeans"],
    )
    dogs = only("Two black and white dogs in the grass .")
    assert (dogs.count, dogs.description) == (2, "black and white dogs")
    assert only("A group of people .").count is None
    assert only("A couple of dogs .").count == 2
    assert only("A soccer player .").description == "soccer player"


def test_what_is_held_and_where() -> None:
    assert only("A dog with a stick in its mouth .").held == [("a stick", "mouth")]
    assert only("A boy is holding a red ball .").held == [("a red ball", "")]
    assert only("A girl is on a swing .").places == [("on", "a swing")]


def test_colours_of_things() -> None:
    coloured = parse(
        "A black and white dog with a red ball and a black haired man ."
    ).coloured
    assert coloured == (("dog", ("black", "white")), ("ball", ("red",)))


@pytest.mark.parametrize(
    ("base", "ing"),
    [("run", "running"), ("ride", "riding"), ("lie", "lying"), ("jump", "jumping"),
     ("see", "seeing"), ("canoe", "canoeing")],
)  # fmt: skip
def test_gerunds(base: str, ing: str) -> None:
    assert gerund(base) == ing


def test_every_form_leads_to_its_verb() -> None:
    assert {verbs()[form].base for form in ("run", "runs", "running")} == {"run"}
    assert verbs()["catches"].base == "catch"
    assert verbs()["lays"].gerund == "lying"
