"""Stop sequences: a text in pieces ends where the whole text would, and shows nothing beyond."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.use_cases.stop_sequences import StopSequences


def through(pieces: Sequence[str], sequences: Sequence[str]) -> list[str]:
    """What is shown after each piece."""
    stops = StopSequences(sequences)
    shown: list[str] = []
    for number, piece in enumerate(pieces, start=1):
        shown.append(stops.push(piece, is_last=number == len(pieces)))
        if stops.found:
            break
    return shown


@pytest.mark.parametrize(
    ("pieces", "sequences", "shown"),
    [
        (["a", "b", "c"], [], ["a", "b", "c"]),
        (["ab", "c"], ["b"], ["a"]),
        (["a\n", "\nb"], ["\n\n"], ["a", ""]),  # spans two pieces
        (["a\n", "b"], ["\n\n"], ["a", "\nb"]),  # only looked like it
        (["a\n"], ["\n\n"], ["a\n"]),  # and the text is over
        (["x", "EN", "D", "y"], ["END"], ["x", "", ""]),
        (["aaa", "b"], ["aab"], ["a", ""]),
        (["abc"], ["c", "b"], ["a"]),  # whichever is complete first
        (["abcd"], ["abcd", "bc"], ["a"]),
    ],
)
def test_what_is_shown_after_each_piece(
    pieces: list[str], sequences: list[str], shown: list[str]
) -> None:
    assert through(pieces, sequences) == shown


SHORT = st.text("ab", max_size=4)


@given(
    st.lists(SHORT, min_size=1, max_size=8), st.lists(SHORT.filter(bool), max_size=4)
)
def test_pieces_end_where_the_whole_text_does(
    pieces: list[str], sequences: list[str]
) -> None:
    (whole,) = through(["".join(pieces)], sequences)
    shown = "".join(through(pieces, sequences))
    assert shown == whole
    assert not any(sequence in shown for sequence in sequences)
