"""What the captions of a photograph agree on."""

from __future__ import annotations

import pytest

from compressor.default_model.data.captions.facts import Facts, compatible, facts_of
from compressor.default_model.data.captions.numbers import MANY, SEVERAL
from compressor.default_model.data.captions.presence import Nouns, nouns_of


def counts(*captions: str) -> dict[str, int]:
    return facts_of(captions).counts


def test_numbers_need_two_captions_and_no_contradiction() -> None:
    assert counts("Two dogs run .", "Two dogs .", "Dogs in snow .") == {"dog": 2}
    assert counts("Two dogs run .", "Dogs in snow .") == {}
    assert counts("Two dogs run .", "Two dogs .", "Three dogs .") == {}
    assert counts("A dog runs .", "A dog .", "Two dogs .") == {}
    assert counts("A dog runs .", "A dog chases another dog .") == {}


def test_people_are_summed() -> None:
    both = counts("A man and a woman sit .", "A man and a woman .")
    assert both == {"man": 1, "woman": 1, "person": 2}
    assert counts("Two boys .", "Two children .") == {"child": 2, "person": 2}
    # One caption speaks of more than the others.
    assert counts("A man runs .", "A man .", "Two people run .") == {}


def test_a_listing_is_not_summed() -> None:
    assert counts(*["Two children , a boy and a girl , run ."] * 2) == {
        "boy": 1,
        "girl": 1,
    }


def test_numbers_that_nobody_counted() -> None:
    assert counts("A group of people .", "Several people .")["person"] == SEVERAL
    assert counts("A man and a crowd .", "The crowd watches .")["person"] == MANY


def names(facts: Facts) -> set[str]:
    return {subject.name for subject in facts.subjects}


def test_a_subject_is_named_only_where_the_name_is_clear() -> None:
    assert names(facts_of(["A dog runs .", "The dog plays ."])) == {"dog"}
    assert names(facts_of(["A black dog chases a white dog .", "Two dogs ."])) == set()
    # A boy to two, a girl to one.
    assert names(facts_of(["A boy runs .", "A boy .", "A girl runs ."])) == {"boy"}
    assert names(facts_of(["A boy runs .", "A girl runs ."])) == set()
    assert names(facts_of(["A boy and a girl .", "A girl ."])) == {"boy", "girl"}


def test_what_is_worn_is_said_without_its_owner() -> None:
    (man,) = facts_of(["A man wearing his hat .", "A man wears a red hat ."]).subjects
    assert man.worn == ["a red hat"]


def test_colours_agree() -> None:
    captions = ["A brown dog in a red shirt .", "A tan dog .", "A brown dog ."]
    assert facts_of(captions).colours == {"dog": ("brown",), "shirt": ("red",)}
    assert facts_of(["A red shirt .", "A green shirt ."]).colours == {}
    # The colour of one of two dogs is not that of "the dog".
    assert facts_of(["A brown dog and a brown dog .", "Two dogs ."]).colours == {}


@pytest.mark.parametrize(
    ("first", "second", "may_be_one"),
    [
        (("brown",), ("tan",), True),
        (("black", "white"), ("white",), True),
        (("red",), ("green",), False),
        (("black", "white"), ("brown", "white"), False),
    ],
)
def test_colours_that_may_be_one(
    first: tuple[str, ...], second: tuple[str, ...], may_be_one: bool
) -> None:
    assert compatible(first, second) == compatible(second, first) == may_be_one


def test_places() -> None:
    snow = facts_of(["A dog in the snow .", "A dog runs through snow ."])
    assert (snow.place, snow.outdoors, snow.time) == ("in the snow", True, "day")
    beside = facts_of(["A man sits by the ocean .", "A man near the ocean ."])
    assert beside.place == "by the ocean"
    park = facts_of(["A boy at a skate park .", "A boy in a skate park ."])
    assert (park.place, park.outdoors) == ("in a skate park", None)
    assert facts_of(["A man in a kitchen .", "A man cooks ."]).outdoors is False
    assert facts_of(["A boy on a jungle gym .", "A boy plays ."]).outdoors is None
    mixed = facts_of(["A man in a kitchen .", "A man in a kitchen near a beach ."])
    assert mixed.outdoors is None
    assert facts_of(["A man on a beach at night .", "A beach ."]).time == "night"


def test_sports() -> None:
    assert facts_of(["A man surfs .", "A surfer ."]).sport == "surfing"
    assert facts_of(["A man surfs .", "A man ."]).sport is None
    assert facts_of(["A boy plays soccer .", "A football game ."]).sport is None
    assert facts_of(["A dog with a football .", "A dog and a football ."]).sport is None


def nouns(*captions: str) -> Nouns:
    return nouns_of(facts_of(captions))


def test_nouns_that_may_be_there_are_not_absent() -> None:
    found = nouns("A dog runs in the snow .", "A dog in the snow .")
    assert {"dog", "animal", "snow"} <= found.present
    assert {"cat", "boy", "train", "water", "pool"} & found.absent == {
        "cat", "boy", "train", "pool"
    }  # fmt: skip
    # A child may be a boy, a surfer a woman, and a photograph of a street has cars.
    assert not {"boy", "girl"} & nouns("A child .", "A child runs .").absent
    assert "woman" not in nouns("A surfer .", "A surfer on a wave .").absent
    assert "car" not in nouns("A dog on a street .", "A street .").absent
    assert "ball" not in nouns("Men play soccer .", "A soccer game .").absent
    assert "person" not in nouns("A dog and its owner .", "A dog .").absent


def test_an_absent_noun_is_in_no_caption() -> None:
    captions = [
        "A man rides a horse near a fence .",
        "A horse and a rider .",
        "A tree .",
    ]
    found = nouns(*captions)
    assert found.absent
    assert not found.absent & found.mentioned
    for noun in found.absent:
        assert all(noun not in caption.lower().split() for caption in captions)
