"""Readers of public formats: what they take, what they skip and count, what they refuse."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from compressor.errors import DataInvalid
from compressor.evaluation.compositional import read_sugarcrepe, read_winoground
from compressor.evaluation.karpathy import read_karpathy
from compressor.evaluation.usable import Usable
from compressor.evaluation.vqa import read_answers, read_vqa


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder with 0.png to 11.png."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(12):
        Image.new("RGB", (2, 2)).save(folder / f"{number}.png")
    return folder


def written(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def lines(path: Path, entries: list[Any]) -> Path:
    return written(path, "".join(f"{json.dumps(entry)}\n" for entry in entries))


def karpathy_entry(
    number: int,
    split: str = "test",
    **changes: Any,
) -> dict[str, Any]:
    sentences = [{"raw": f"caption {number} {n}"} for n in range(2)]
    return {
        "filename": f"{number}.png",
        "split": split,
        "sentences": sentences,
        **changes,
    }


def test_karpathy(tmp_path: Path, images: Path) -> None:
    entries = [karpathy_entry(n) for n in range(10)] + [
        karpathy_entry(10, "train"),
        karpathy_entry(11, sentences=[{}]),
    ]
    usable = Usable()
    found = read_karpathy(
        written(tmp_path / "d.json", {"images": entries}),
        images,
        "test",
        usable,
    )
    assert [image.path.name for image in found] == [f"{n}.png" for n in range(10)]
    assert found[3].captions == ("caption 3 0", "caption 3 1")
    assert usable.skipped == {"no caption": 1}


def test_karpathy_of_coco_has_folders(tmp_path: Path, images: Path) -> None:
    file = written(
        tmp_path / "d.json", {"images": [karpathy_entry(1, filepath="images")]}
    )
    assert read_karpathy(file, tmp_path, "test", Usable())[0].path == images / "1.png"


def test_sugarcrepe(tmp_path: Path, images: Path) -> None:
    folder = tmp_path / "crepe"
    folder.mkdir()
    one = {
        "filename": "1.png",
        "caption": "a",
        "negative_caption": "b",
    }
    written(
        folder / "swap_att.json",
        {str(n): one for n in range(9)} | {"9": {**one, "filename": "none.png"}},
    )
    written(folder / "add_obj.json", {"0": one})
    usable = Usable()
    found = read_sugarcrepe(folder, images, usable)
    assert {category: len(some) for category, some in found.items()} == {
        "add_obj": 1,
        "swap_att": 9,
    }
    assert (found["add_obj"][0].caption, found["add_obj"][0].negative) == ("a", "b")
    assert usable.skipped == {"no image": 1}


def test_winoground(tmp_path: Path, images: Path) -> None:
    entry = {
        "image_0": "0",
        "image_1": "1.png",
        "caption_0": "a b",
        "caption_1": "b a",
    }
    found = read_winoground(
        lines(tmp_path / "examples.jsonl", [entry]),
        images,
        Usable(),
    )
    assert [path.name for path in found[0].images] == ["0.png", "1.png"]
    assert found[0].captions == ("a b", "b a")


def test_vqa(tmp_path: Path, images: Path) -> None:
    asked = [{"question_id": n, "image_id": n, "question": f"q{n}"} for n in range(10)]
    answers = [
        {"question_id": n, "answers": [{"answer": "yes"}, {"answer": "no"}]}
        for n in range(10)
    ]
    questions = written(
        tmp_path / "q.json",
        {
            "questions": [
                *asked,
                {
                    "question_id": 9,
                    "image_id": 99,
                    "question": "?",
                },
            ]
        },
    )
    annotations = written(tmp_path / "a.json", {"annotations": answers})
    usable = Usable()
    found = read_vqa(questions, annotations, images, "{}.png", usable)
    assert [(each.path.name, each.question, each.answers) for each in found[:2]] == [
        ("0.png", "q0", ("yes", "no")),
        ("1.png", "q1", ("yes", "no")),
    ]
    assert (len(found), usable.skipped) == (10, {"no image": 1})


def test_answers_in_lines(tmp_path: Path, images: Path) -> None:
    entries: list[Any] = [
        {"image": f"{n}.png", "question": "q", "answers": ["a", 2]} for n in range(10)
    ]
    file = lines(
        tmp_path / "a.jsonl",
        [
            *entries,
            {
                "image": "1.png",
                "question": "q",
                "answer": "a",
            },
            {"image": "1.png"},
        ],
    )
    usable = Usable()
    found = read_answers(file, images, usable)
    assert (found[0].answers, found[10].answers) == (("a", "2"), ("a",))
    assert usable.skipped == {"no question": 1}


def broken_line(tmp_path: Path, images: Path) -> object:
    return read_answers(
        written(tmp_path / "a.jsonl", "{\n{}\n"),
        images,
        Usable(),
    )


def nothing_there(tmp_path: Path, images: Path) -> object:
    return read_answers(tmp_path / "nowhere.jsonl", images, Usable())


def too_many_missing(tmp_path: Path, images: Path) -> object:
    entries = [
        {"image": f"{n}.png", "question": "q", "answer": "a"} for n in range(8, 16)
    ]
    return read_answers(
        lines(tmp_path / "a.jsonl", entries),
        images,
        Usable(),
    )


def no_json(tmp_path: Path, images: Path) -> object:
    return read_karpathy(
        written(tmp_path / "d.json", "[}"),
        images,
        "test",
        Usable(),
    )


def no_images(tmp_path: Path, images: Path) -> object:
    return read_karpathy(
        written(tmp_path / "d.json", {"annotations": []}),
        images,
        "test",
        Usable(),
    )


def another_split(tmp_path: Path, images: Path) -> object:
    file = written(tmp_path / "d.json", {"images": [karpathy_entry(1, "train")]})
    return read_karpathy(file, images, "test", Usable())


def no_categories(tmp_path: Path, images: Path) -> object:
    return read_sugarcrepe(tmp_path, images, Usable())


def wrong_categories(tmp_path: Path, images: Path) -> object:
    written(tmp_path / "add_obj.json", "3")
    return read_sugarcrepe(tmp_path, images, Usable())


def wrong_vqa(tmp_path: Path, images: Path) -> object:
    file = written(tmp_path / "q.json", {"questions": 3})
    return read_vqa(file, file, images, "{}", Usable())


def wrong_names(tmp_path: Path, images: Path) -> object:
    asked = [
        {
            "question_id": 1,
            "image_id": 1,
            "question": "q",
        }
    ]
    annotations = written(
        tmp_path / "a.json",
        {"annotations": [{"question_id": 1, "answers": [{"answer": "a"}]}]},
    )
    return read_vqa(
        written(tmp_path / "q.json", {"questions": asked}),
        annotations,
        images,
        "{1}",
        Usable(),
    )


@pytest.mark.parametrize(
    "read",
    [
        broken_line,
        nothing_there,
        too_many_missing,
        no_json,
        no_images,
        another_split,
        no_categories,
        wrong_categories,
        wrong_vqa,
        wrong_names,
    ],
)
def test_data_that_is_of_no_use_is_refused(
    read: Callable[[Path, Path], object],
    tmp_path: Path,
    images: Path,
) -> None:
    with pytest.raises(DataInvalid):
        read(tmp_path, images)
