"""VQA accuracy by hand, and answers that say the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compressor.evaluation.vqa import exact_match, normalised, vqa_accuracy


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("A red  Car.", "red car"),
        ("the Two dogs!", "2 dogs"),
        ("dont know", "don't know"),
        ("1,000", "1000"),
        ("3.5 m", "3.5 m"),
        ("t-shirt", "t shirt"),
        ("yes, it is", "yes it is"),
        ("none", "0"),
        ("wheres it", "where's it"),
        ("", ""),
        ("...", ""),
        ("a/b", "b"),
    ],
)
def test_answers_are_normalised(answer: str, said: str) -> None:
    assert normalised(answer) == said


@given(st.text(max_size=40))
def test_normalising_leaves_no_space_at_the_ends(answer: str) -> None:
    said = normalised(answer)
    assert said == " ".join(said.split())


@pytest.mark.parametrize(
    ("same", "accuracy"),
    [
        (0, 0.0),
        (1, 0.3),
        (2, 0.6),
        (3, 0.9),
        (4, 1.0),
        (10, 1.0),
    ],
)
def test_accuracy_over_ten_people(same: int, accuracy: float) -> None:
    """Of ten sets of nine people, `same` lack one who gave the answer: 1/3 a head, at most 1."""
    people = ["cat"] * same + ["dog"] * (10 - same)
    assert vqa_accuracy("A cat.", people) == pytest.approx(accuracy)


@given(
    st.lists(
        st.sampled_from(["yes", "no", "maybe"]),
        min_size=2,
        max_size=10,
    )
)
def test_accuracy_is_the_mean_over_all_sets_but_one(people: list[str]) -> None:
    sets = [
        [*people[:left_out], *people[left_out + 1 :]] for left_out in range(len(people))
    ]
    expected = sum(min(1, some.count("yes") / 3) for some in sets) / len(sets)
    assert vqa_accuracy("yes", people) == pytest.approx(expected)


def test_one_answer_is_right_or_wrong() -> None:
    assert vqa_accuracy("Blue.", ["blue"]) == 1
    assert exact_match("The blue one", ["blue one", "azure"]) == 1
    assert exact_match("blue", ["blue one"]) == 0
