"""Names of ImageNet's classes: articles and hypernyms."""

from __future__ import annotations

import random

import pytest

from compressor.default_model.data.labels import absent_hypernym, hypernym, named
from compressor.default_model.names import class_names


def test_a_label_has_its_article() -> None:
    assert named("golden retriever") == "a golden retriever"
    assert named("ox") == "an ox"
    assert named("sunglasses") == "sunglasses"
    assert named("hippopotamus") == "a hippopotamus"


@pytest.mark.parametrize(
    ("label", "word"),
    [
        ("beagle", "dog"),
        ("Egyptian cat", "cat"),
        ("king penguin", "bird"),
        ("lion", None),
        ("espresso", None),
    ],
)
def test_hypernyms_of_labels(label: str, word: str | None) -> None:
    assert label in class_names()
    assert hypernym(label) == word


def test_an_absent_hypernym_is_neither_the_own_nor_a_similar_one() -> None:
    def asked(label: str) -> set[str | None]:
        return {absent_hypernym(label, random.Random(seed)) for seed in range(300)}

    assert {"dog", "bird", "snake"} <= asked("espresso")
    assert {"dog", "wolf", "fox"}.isdisjoint(asked("red fox"))
    assert "dog" in asked("Egyptian cat")
    assert "dog" not in asked("hot dog")
    assert asked("lion") == {None}  # some would call it a cat
