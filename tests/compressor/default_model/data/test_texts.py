"""WordNet's nouns and sentences, the texts made from them, and queries."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from compressor.default_model.data import texts
from compressor.default_model.data.photos import Photo
from compressor.default_model.data.texts import Noun, photo_of, queries, teaching_texts
from compressor.errors import DataInvalid

NOUNS = """\
  1 This software and database is being provided to you ...
00000001 05 n 02 dog 0 domestic_dog 0 000 | a member of Canis; "the dog barked all night long"
00000002 05 n 01 heron 0 000 | a wading bird; "a heron stood in the shallow water"; "one heron"
00000003 06 n 03 red-hot_stove 0 stove 0 range 0 000 | a kitchen appliance
00000004 04 n 01 barking 0 000 | an act
00000005 05 n 01 Canis 0 000 | a genus
00000006 18 n 01 dog 0 000 | a dull person
"""
VERBS = """\
00000007 30 v 01 bark 0 000 | make barking sounds; "The dogs barked at the passing stranger"
"""
SENSES = """\
dog%1:05:00:: 00000001 1 42
dog%1:18:00:: 00000006 2 1
bark%2:30:00:: 00000007 1 9
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in (
        ("data.noun", NOUNS),
        ("data.verb", VERBS),
        ("data.adj", ""),
        ("data.adv", ""),
    ):
        (tmp_path / name).write_text(text, encoding="latin-1")
    (tmp_path / "index.sense").write_text(SENSES)
    return tmp_path


def test_concrete_nouns_come_once_the_most_frequent_first(folder: Path) -> None:
    assert texts.read(folder).nouns == (
        Noun("dog", "animal", 42),
        Noun("domestic dog", "animal", 42),
        Noun("heron", "animal", 0),
        Noun("red-hot stove", "artifact", 0),
        Noun("stove", "artifact", 0),
    )


def test_sentences_of_all_kinds_of_words_but_short_ones(folder: Path) -> None:
    assert texts.read(folder).sentences == (
        "The dogs barked at the passing stranger",
        "a heron stood in the shallow water",
        "the dog barked all night long",
    )


def test_excluded_names_are_neither_nouns_nor_spoken_of(folder: Path) -> None:
    known = texts.read(folder, excluded=["Heron"])
    assert "heron" not in {noun.text for noun in known.nouns}
    assert not any("heron" in text for text in known.sentences)
    assert len(known.sentences) == 2


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataInvalid, match="holds no WordNet"):
        texts.read(tmp_path)


def test_teaching_texts_are_captions_and_what_is_made_from_them(folder: Path) -> None:
    photos = [
        Photo(
            Path("1.jpg"),
            None,
            ("A dog is running fast", "Two dogs"),
        )
    ]
    known = texts.read(folder)
    taught = teaching_texts(photos, known, ["heron"], seed=3)
    assert list(taught) == list(teaching_texts(photos, known, ["heron"], seed=3))
    assert list(taught) != list(teaching_texts(photos, known, ["heron"], seed=4))
    assert [taught[text] for text in ("A dog is running fast", "Two dogs")] == [
        1.0,
        1.0,
    ]
    assert taught["A domestic dog is running fast"] == taught["three dogs"] == 1.0
    assert {taught[text] for text in known.sentences} == {0.2}
    assert any(
        text in ("a photo of a dog", "a dog", "a picture of a dog", "an image of a dog")
        for text in taught
    )


def test_a_noun_gets_its_article() -> None:
    said = {
        photo_of(Noun("owl", "animal", 0), random.Random(seed)) for seed in range(20)
    }
    assert "a photo of an owl" in said
    assert len(said) == 4


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
