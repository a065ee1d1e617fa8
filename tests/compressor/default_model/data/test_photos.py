"""Photographs: the index, the split, and questions about labels and captions."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from compressor.default_model.build import WEIGHTS
from compressor.default_model.data import photos
from compressor.default_model.data.photos import Photo, absent_hypernym, hypernym
from compressor.default_model.vocabulary import Words
from compressor.errors import DataInvalid
from compressor.training.sample import QA


def write(folder: Path, entries: list[dict[str, object]]) -> Path:
    (folder / "images").mkdir(
        parents=True,
        exist_ok=True,
    )
    for entry in entries:
        Image.new("RGB", (24, 18), (200, 30, 30)).save(
            folder / "images" / str(entry["file"])
        )
    (folder / "index.jsonl").write_text(
        "".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8"
    )
    return folder


def test_the_split_depends_on_the_names_alone(tmp_path: Path) -> None:
    entries: list[dict[str, object]] = [
        {"file": f"in_{n:03}.jpg", "label": f"thing {n}"} for n in range(300)
    ]
    entries += [{"file": f"fl_{n:03}.jpg", "captions": ["A dog ."]} for n in range(20)]
    one = photos.read(write(tmp_path / "a", entries))
    other = photos.read(write(tmp_path / "b", entries[::-1]))
    assert [p.path.name for p in one.held_out] == [p.path.name for p in other.held_out]
    assert len(one.held_out_labels) == 250
    assert {p.path.name for p in one.training}.isdisjoint(
        p.path.name for p in one.held_out
    )
    assert len(one.training) + len(one.held_out) == 320
    assert one.training[0].open().mode == "RGB"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"file": "in_1.jpg"}\n', "line 1: neither a label nor a caption"),
        ('{"file": "in_1.jpg", "captions": [" "]}\n', "neither"),
        ('{"label": "dog"}\n', "file"),
        ("{broken\n", "index.jsonl"),
        ("[1]\n", "index.jsonl"),
    ],
)
def test_a_bad_index_is_refused(
    tmp_path: Path,
    text: str,
    message: str,
) -> None:
    (tmp_path / "index.jsonl").write_text(text, encoding="utf-8")
    with pytest.raises(DataInvalid, match=message):
        photos.read(tmp_path)


def test_a_missing_index_and_a_broken_photograph_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataInvalid, match=r"index\.jsonl"):
        photos.read(tmp_path)
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    with pytest.raises(DataInvalid, match=r"bad\.jpg"):
        Photo(tmp_path / "bad.jpg", "dog", ()).open()


def test_a_label_has_its_article() -> None:
    assert photos.named("golden retriever") == "a golden retriever"
    assert photos.named("ox") == "an ox"
    assert photos.named("sunglasses") == "sunglasses"
    assert photos.named("hippopotamus") == "a hippopotamus"


def test_labels_are_asked_for_with_balance_and_the_plain_question_is_among_them(
    tmp_path: Path,
) -> None:
    others = [
        Photo(tmp_path / f"{name}.jpg", name, ())
        for name in ("tabby cat", "tiger cat", "ox", "sunglasses")
    ]
    answers, plain = Counter[str](), 0
    for seed in range(400):
        naming, *more = photos.questions(
            others[0],
            random.Random(seed),
            others,
        )
        assert naming.answer == "A tabby cat."
        plain += naming.question == "What is in the image?"
        for qa in more:
            answers[qa.answer] += 1
            assert (
                "tiger" not in qa.question
            )  # it shares a word, so neither yes nor no would be fair
            assert ("tabby" in qa.question) == (qa.answer == "Yes.")
    assert plain > 40
    assert abs(answers["Yes."] - answers["No."]) < 60


def test_nouns_are_denied_only_if_no_caption_may_mean_them(tmp_path: Path) -> None:
    photo = Photo(
        tmp_path / "1.jpg",
        None,
        (
            "A boy throws a ball",
            "A child with a soccer ball",
            "A boy and a ball",
        ),
    )
    others = [
        Photo(
            tmp_path / "2.jpg",
            None,
            ("A man with a dog, a kid and a girl on a red bike and a toy",),
        )
    ]
    told = Counter[tuple[str, str]]()
    for seed in range(300):
        description, *more = photos.questions(photo, random.Random(seed), others)
        assert description.kind == "photo_caption"
        assert description.answer.rstrip(".") in photo.captions
        for qa in more:
            told[qa.answer, qa.question] += 1
    denied = " ".join(question for answer, question in told if answer == "No.")
    assert "dog" in denied
    assert "bicycle" in denied
    for open_question in ("man", "child", "toy", "person", "ball"):
        assert f" {open_question} " not in denied.replace("?", " ")
    said = " ".join(question for answer, question in told if answer == "Yes.")
    assert "boy" in said
    assert "dog" not in said


def test_captions_are_tidied(tmp_path: Path) -> None:
    entries: list[dict[str, object]] = [
        {
            "file": "fl_1.jpg",
            "captions": ["A girl touches a boy 's face ; both smile ."],
        }
    ]
    found = photos.read(write(tmp_path, entries))
    assert found.held_out[0].captions == ("A girl touches a boy's face; both smile",)


def test_mentioned() -> None:
    assert photos.mentioned("Two dogs run after a Frisbee") == {"dog", "frisbee"}
    assert "person" in photos.NOUNS["boy"].compatible
    assert "truck" in photos.NOUNS["car"].compatible
    assert "dog" not in photos.NOUNS["boy"].compatible


@pytest.mark.shared
def test_the_shared_photographs_split_as_the_model_card_says() -> None:
    folder = Path(__file__).parents[5] / "shared" / "data" / "photos"
    if not folder.exists():
        pytest.skip("the training photographs are not on this machine")
    found = photos.read(folder)
    assert (len(found.training), len(found.held_out), len(found.held_out_labels)) == (
        1000,
        500,
        250,
    )
    assert not set(found.held_out_labels) & {photo.label for photo in found.training}
    assert found.held_out[0].open().mode == "RGB"


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
    assert label in Words.load(WEIGHTS).classes
    assert hypernym(label) == word


def test_an_absent_hypernym_is_neither_the_own_nor_a_similar_one() -> None:
    def asked(label: str) -> set[str | None]:
        return {absent_hypernym(label, random.Random(seed)) for seed in range(300)}

    assert {"dog", "bird", "snake"} <= asked("espresso")
    assert {"dog", "wolf", "fox"}.isdisjoint(asked("red fox"))
    assert "dog" in asked("Egyptian cat")
    assert "dog" not in asked("hot dog")
    assert asked("lion") == {None}  # some would call it a cat


def test_a_named_photograph_is_asked_about_hypernyms_both_ways() -> None:
    beagle = Photo(path=Path(), label="beagle", captions=())
    asked: list[QA] = []
    for seed in range(60):
        asked += photos.questions(
            beagle,
            random.Random(seed),
            [beagle],
        )
    about_dogs = {qa.answer for qa in asked if " dog" in qa.question}
    assert about_dogs == {"Yes."}
    assert "No." in {qa.answer for qa in asked if qa.kind == "photo_exists"}
