"""Photographs: the index and the split."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from compressor.default_model.data import photos
from compressor.errors import DataInvalid


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
    assert sum(photo.label is not None for photo in one.held_out) == 250
    assert {p.path.name for p in one.training}.isdisjoint(
        p.path.name for p in one.held_out
    )
    assert len(one.training) + len(one.held_out) == 320


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


def test_a_missing_index_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataInvalid, match=r"index\.jsonl"):
        photos.read(tmp_path)


def test_captions_are_tidied(tmp_path: Path) -> None:
    entries: list[dict[str, object]] = [
        {
            "file": "fl_1.jpg",
            "captions": ["A girl touches a boy 's face ; both smile ."],
        }
    ]
    found = photos.read(write(tmp_path, entries))
    assert found.held_out[0].captions == ("A girl touches a boy's face; both smile",)


@pytest.mark.shared
def test_the_shared_photographs_split_as_documented() -> None:
    folder = Path(__file__).parents[5] / "shared" / "data" / "photos"
    if not folder.exists():
        pytest.skip("the training photographs are not on this machine")
    found = photos.read(folder)
    held_out = {photo.label for photo in found.held_out if photo.label}
    sizes = (len(found.training), len(found.held_out), len(held_out))
    assert sizes == (1000, 500, 250)
    assert not held_out & {photo.label for photo in found.training}
