"""Search texts: spellings that mean the same become the same text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compressor.text import normalise_text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("zebra", "zebra"),
        ("Zebra.", "zebra"),
        ("ZEBRA", "zebra"),
        ("  a  zebra ", "a zebra"),
        ("a\u00a0zebra", "a zebra"),
        ("a\tzebra\n", "a zebra"),
        ("Cafe\u0301", "caf\u00e9"),
        ("\uff3a\uff25\uff22\uff32\uff21\uff01", "zebra"),
        ("Is there a zebra?!", "is there a zebra"),
        ("a zebra . . .", "a zebra"),
        ("a zebra\u2026", "a zebra"),
        ("シマウマ。", "シマウマ"),
        ("Straße", "straße"),
        ("No. 1, please", "no. 1, please"),
        ("a sign (red)", "a sign (red)"),
        ("C++", "c++"),
        ("\ufeffa ze\u00adbra\u200b\u200e", "a zebra"),
        ("a zebra\0", "a zebra"),
        ("\u00bfUna cebra?", "una cebra"),
        ("\u0645\u06cc\u200c\u062e", "\u0645\u06cc\u200c\u062e"),
        ("", ""),
        (" ?! \u2026", ""),
    ],
)
def test_variants_become_one_text(text: str, expected: str) -> None:
    assert normalise_text(text) == expected


@given(st.text())
def test_a_normalised_text_stays_as_it_is(text: str) -> None:
    once = normalise_text(text)
    assert normalise_text(once) == once
