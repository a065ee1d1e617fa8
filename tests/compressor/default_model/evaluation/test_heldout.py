"""The held-out sets are fixed and balanced, and their answers are judged by word."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from compressor.default_model.data.cutouts import Objects
from compressor.default_model.data.english import plural
from compressor.default_model.data.photos import Photo, Photos
from compressor.default_model.evaluation import heldout
from compressor.default_model.evaluation.heldout import HeldOutQuestion
from tests.compressor.default_model.data import drawing

COUNT = 24
SETS: dict[str, Callable[[Objects], Iterator[HeldOutQuestion]]] = {
    "background": lambda objects: heldout.background(objects, COUNT),
    "counting 1-3": lambda objects: heldout.counting(objects, 3, COUNT),
    "counting 1-4": lambda objects: heldout.counting(objects, 4, COUNT),
    "existence": lambda objects: heldout.existence(objects, COUNT),
    "left or right": lambda objects: heldout.left_or_right(objects, COUNT),
    "top or bottom": lambda objects: heldout.top_or_bottom(objects, COUNT),
}


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Objects:
    return drawing.prepared(tmp_path_factory.mktemp("objects"), 120)


@pytest.mark.parametrize("name", SETS)
def test_sets_are_fixed_and_their_own_answers_are_right(
    pool: Objects, name: str
) -> None:
    one, other = (list(SETS[name](pool)) for _ in range(2))
    assert len(one) == COUNT
    assert [(q.image.tobytes(), q.question, q.expected) for q in one] == [
        (q.image.tobytes(), q.question, q.expected) for q in other
    ]
    for question in one:
        assert heldout.SCORERS[question.scorer](
            f"{question.expected.capitalize()}.", question.expected
        )


@pytest.mark.parametrize(
    "name",
    [
        "counting 1-3",
        "counting 1-4",
        "existence",
        "left or right",
        "top or bottom",
    ],
)
def test_answers_are_equally_frequent(pool: Objects, name: str) -> None:
    assert (
        len(set(Counter(question.expected for question in SETS[name](pool)).values()))
        == 1
    )


def test_only_held_out_names_are_asked_for(pool: Objects) -> None:
    held_out = set(pool.held_out().names)
    for name in ("counting 1-3", "existence"):
        for question in SETS[name](pool):
            assert any(
                noun in question.question or plural(noun) in question.question
                for noun in held_out
            ), question


def test_a_longer_set_begins_like_a_shorter_one(pool: Objects) -> None:
    short, long = (list(heldout.counting(pool, 3, count)) for count in (3, 9))
    assert [q.question for q in long[:3]] == [q.question for q in short]


def test_hard_negatives_are_fixed(pool: Objects) -> None:
    one, other = (list(heldout.hard_negatives(pool, COUNT)) for _ in range(2))
    assert [pair for _, pair in one] == [pair for _, pair in other]
    assert len({pair.change for _, pair in one}) > 2


def test_photograph_sets(tmp_path: Path) -> None:
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    held_out = (
        Photo(tmp_path / "a.png", "ox", ()),
        Photo(tmp_path / "a.png", None, ("One", "Two")),
    )
    photos = Photos((Photo(tmp_path / "b.png", "cat", ()),), held_out)
    (naming,) = heldout.naming(photos)
    assert (naming.question, naming.expected, naming.scorer) == (
        "What is in the image?",
        "ox",
        "name",
    )
    labels, captions = (
        heldout.label_retrieval(photos),
        heldout.caption_retrieval(photos),
    )
    assert (list(labels.photos), list(labels.texts)) == (
        [held_out[0]],
        ["a photo of an ox"],
    )
    assert list(captions.photos) == [held_out[1]]
    assert captions.texts[0] in ("One", "Two")


@pytest.mark.parametrize(
    ("scorer", "answer", "expected", "right"),
    [
        ("name", "A golden retriever.", "golden retriever", True),
        ("name", "A Retriever on grass", "golden retriever", True),
        ("name", "Two retrievers.", "golden retriever", True),
        ("name", "A golden eagle.", "golden retriever", False),
        ("name", "A catalogue.", "cat", False),
        ("name", "", "cat", False),
        ("name", "A jack-o-lantern", "jack-o-lantern", True),
        ("colour", "The background is gray.", "grey", True),
        ("colour", "Blue.", "green", False),
        ("colour", "Blue, not green.", "green", False),
        ("number", "3", "three", True),
        ("number", "There are three.", "three", True),
        ("number", "Four.", "three", False),
        ("number", "Many.", "three", False),
        ("yes_no", "Yes, there is.", "yes", True),
        ("yes_no", "There is no cat, yes.", "yes", False),
        ("yes_no", "No.", "no", True),
        ("side", "On the left.", "left", True),
        ("side", "Right.", "left", False),
        ("height", "Above.", "top", True),
        ("height", "At the bottom", "top", False),
    ],
)
def test_scoring(
    scorer: str,
    answer: str,
    expected: str,
    right: bool,
) -> None:
    assert heldout.SCORERS[scorer](answer, expected) is right
