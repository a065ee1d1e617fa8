"""Questions about several photographs together."""

from __future__ import annotations

import random

import pytest

from compressor.default_model.data.captions.about_several import (
    MOST_PHOTOGRAPHS,
    questions,
)
from compressor.default_model.data.captions.photograph import Photograph
from compressor.training.sample import QA
from tests.compressor.default_model.data.captions.test_questions import (
    DOG,
    KITCHEN,
    MAN,
    PAIR,
    PHOTOGRAPHS,
)


def asked(*photos: Photograph) -> list[QA]:
    """What is asked over many draws."""
    draws = [questions(photos, random.Random(seed)) for seed in range(80)]
    return [qa for draw in draws for qa in draw]


def pairs(kind: str, *photos: Photograph) -> set[tuple[str, str]]:
    """Questions of a kind, plain, and their answers."""
    found = set()
    for qa in asked(*photos):
        if qa.kind == kind:
            found.add((qa.question.lower().rstrip("?."), qa.answer))
    return found


@pytest.mark.parametrize(
    ("photos", "place"), [((DOG, MAN), "first"), ((MAN, DOG), "second")]
)
def test_the_picture_that_shows_something_is_told_by_its_place(
    photos: tuple[Photograph, ...], place: str
) -> None:
    found = pairs("several_which", *photos)
    of_dogs = {answer for question, answer in found if "a dog" in question}
    assert of_dogs == {f"The {place} one."}


def test_something_is_there_if_any_picture_shows_it() -> None:
    found = pairs("several_exists", DOG, MAN)
    assert {answer for question, answer in found if " dog" in question} == {"Yes."}
    assert {answer for question, answer in found if " horse" in question} == {"No."}
    answers = [answer for _, answer in found]
    assert 0.3 < answers.count("Yes.") / len(answers) < 0.7


def test_pictures_that_show_something_are_counted() -> None:
    found = pairs("several_count", DOG, DOG, MAN)
    assert {answer for question, answer in found if "a dog" in question} == {"Two."}


def test_a_subject_of_one_picture_alone_is_asked_about_without_naming_the_picture() -> (
    None
):
    found = pairs("several_doing", DOG, MAN)
    assert {answer for question, answer in found if "dog" in question} <= {
        "Running through the snow.",
        "Running in the snow.",
        "Running.",
    }
    assert found
    assert not pairs("several_doing", DOG, DOG)


def test_each_picture_is_described_by_its_own_captions() -> None:
    for question, answer in pairs("several_describe", PAIR, KITCHEN):
        own = PAIR if "first" in question else KITCHEN
        assert answer in own.captions


def test_there_is_a_word_for_the_place_of_each_picture() -> None:
    photos = (PHOTOGRAPHS * 2)[:MOST_PHOTOGRAPHS]
    assert asked(*photos)
