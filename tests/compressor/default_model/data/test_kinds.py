"""What is a dog, and what surely is none."""

from __future__ import annotations

import random

import pytest

from compressor.default_model.build import WEIGHTS
from compressor.default_model.data import photos
from compressor.default_model.data.photos import Photo, absent_hypernym, hypernym
from compressor.default_model.vocabulary import Words


@pytest.mark.parametrize(
    ("label", "kind"),
    [
        ("beagle", "dog"),
        ("Egyptian cat", "cat"),
        ("king penguin", "bird"),
        ("lion", None),
        ("espresso", None),
    ],
)
def test_kinds_of_labels(label: str, kind: str | None) -> None:
    assert label in Words.load(WEIGHTS).classes
    assert hypernym(label) == kind


def test_absent_kinds_are_neither_the_own_nor_one_alike() -> None:
    def asked(label: str) -> set[str | None]:
        return {absent_hypernym(label, random.Random(seed)) for seed in range(300)}

    assert {"dog", "bird", "snake"} <= asked("espresso")
    assert {"dog", "wolf", "fox"}.isdisjoint(asked("red fox"))
    assert "dog" in asked("Egyptian cat")
    assert "dog" not in asked("hot dog")
    assert asked("lion") == {None}  # some would call it a cat


def test_a_named_photograph_is_asked_about_kinds_both_ways() -> None:
    beagle = Photo(path=None, label="beagle", captions=())  # type: ignore[arg-type]
    asked = [
        qa for seed in range(60) for qa in photos.questions(beagle, random.Random(seed), [beagle])
    ]
    about_dogs = {qa.answer for qa in asked if " dog" in qa.question}
    assert about_dogs == {"Yes."}
    assert "No." in {qa.answer for qa in asked if qa.kind == "photo_exists"}
