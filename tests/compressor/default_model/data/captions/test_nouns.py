"""Nouns of captions and what else may be called so."""

from __future__ import annotations

from compressor.default_model.data.captions.nouns import NOUNS, mentioned


def test_mentioned() -> None:
    assert mentioned("Two dogs run after a Frisbee") == {"dog", "frisbee"}
    assert "person" in NOUNS["boy"].compatible
    assert "truck" in NOUNS["car"].compatible
    assert "dog" not in NOUNS["boy"].compatible
