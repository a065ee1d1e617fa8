"""Short texts that captions make right of a photograph."""

from __future__ import annotations

from pathlib import Path

from compressor.default_model.data.photos import Photo
from compressor.default_model.data.texts import queries


def test_what_several_captions_say_is_searched_for_in_every_form() -> None:
    captions = (
        "A dog, running on an Ice rink",
        "Two people and a dog on ice",
        "a cat near the dog",
    )
    assert queries(Photo(Path(), None, captions), {"dog", "ice", "cat", "heron"}) == [
        "a photo of a dog",
        "a dog",
        "dog",
        "a photo of an ice",
        "an ice",
        "ice",
    ]


def test_one_caption_alone_is_not_believed() -> None:
    assert queries(Photo(Path(), None, ("a dog and a dog",)), {"dog"}) == []


def test_a_named_photograph_is_searched_for_by_its_bare_name() -> None:
    assert queries(Photo(Path(), "tabby cat", ()), {"dog"}) == ["tabby cat"]
