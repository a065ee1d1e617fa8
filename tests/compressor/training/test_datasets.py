"""Samples from people's own files, good and bad."""

from __future__ import annotations

import io
import json
import tarfile
from itertools import islice
from pathlib import Path

import pytest
from PIL import Image

from compressor.errors import DataInvalid
from compressor.training.datasets import Instructions, read

GOOD = 20


def pictures(folder: Path, count: int = GOOD) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / f"{number}.png")


def llava(folder: Path, *extra: object) -> Path:
    pictures(folder / "images")
    samples: list[object] = [
        {
            "image": f"{number}.png",
            "conversations": [
                {"from": "human", "value": "<image>\nWhat is it?"},
                {"from": "gpt", "value": f"Number {number}."},
                {"from": "human", "value": "Sure?"},
                {"from": "gpt", "value": "Yes."},
            ],
        }
        for number in range(GOOD)
    ]
    (folder / "data.json").write_text(json.dumps([*samples, *extra]))
    return folder / "data.json"


def test_conversations_in_llavas_format(tmp_path: Path) -> None:
    found = read(llava(tmp_path), tmp_path / "images", seed=1)
    epoch = list(islice(found, GOOD))
    assert len(found) == len({sample.image.getpixel((0, 0)) for sample in epoch}) == GOOD
    for sample in epoch:
        red = sample.image.getpixel((0, 0))[0]
        assert {(qa.question, qa.answer) for qa in sample.questions} == {
            ("What is it?", f"Number {red}."),
            ("Sure?", "Yes."),
        }
        assert sample.caption == ""


def test_an_index_with_captions_and_questions(tmp_path: Path) -> None:
    pictures(tmp_path / "images", 2)
    lines = [
        {"file": "0.png", "captions": ["a red square"], "questions": [["Colour?", "Red."]]},
        {"file": "1.png", "captions": ["word " * 40]},
    ]
    (tmp_path / "index.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = {
        sample.image.getpixel((0, 0))[0]: sample
        for sample in islice(read(tmp_path, tmp_path, 1), 2)
    }
    assert found[0].caption == "a red square"
    assert [qa.answer for qa in found[0].questions] == ["Red.", "a red square"]
    assert found[1].caption == ""  # too long for the contrastive loss
    assert len(found[1].questions) == 1


def test_shards_of_pictures_and_captions(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(buffer, "JPEG")
    with tarfile.open(tmp_path / "a.tar", "w") as shard:
        for name, data in (
            ("0.jpg", buffer.getvalue()),
            ("0.txt", b"red"),
            ("1.jpg", buffer.getvalue()),
            ("1.json", json.dumps({"caption": "red again"}).encode()),
        ):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            shard.addfile(member, io.BytesIO(data))
    found = read(tmp_path, tmp_path, 1)
    assert {sample.caption for sample in islice(found, 2)} == {"red", "red again"}
    assert next(found).image.size == (8, 8)


def test_a_stream_goes_on_exactly_where_it_stopped(tmp_path: Path) -> None:
    data = llava(tmp_path)
    first = read(data, tmp_path / "images", 1)
    list(islice(first, 27))
    state = json.loads(json.dumps(first.state_dict()))
    rest = [sample.questions for sample in islice(first, 30)]
    again = read(data, tmp_path / "images", 1)
    again.load_state_dict(state)
    assert [sample.questions for sample in islice(again, 30)] == rest
    with pytest.raises(DataInvalid, match="other data"):
        read(data, tmp_path / "images", 2).load_state_dict(state)


def test_what_cannot_be_used_is_counted_and_a_little_of_it_is_let_pass(tmp_path: Path) -> None:
    data = llava(tmp_path, {"image": "gone.png", "conversations": []}, {"conversations": "none"})
    assert read(data, tmp_path / "images", 1).skipped == {"no image": 1, "no conversation": 1}


def test_too_much_of_it_stops_the_run(tmp_path: Path) -> None:
    data = llava(tmp_path, *[{"image": f"gone-{n}.png", "conversations": []} for n in range(5)])
    with pytest.raises(DataInvalid, match="of 25 samples 20 can be used: 5 with no image"):
        read(data, tmp_path / "images", 1)
    pictures(tmp_path / "index" / "images", 1)
    (tmp_path / "index" / "index.jsonl").write_text(
        '{"file": "0.png", "captions": ["a"]}\n{broken\n'
    )
    with pytest.raises(DataInvalid, match="1 with a broken line"):
        read(tmp_path / "index", tmp_path, 1)


@pytest.mark.parametrize("content", ["{", "{}", "[]", "\ud800"])
def test_files_that_hold_no_samples(tmp_path: Path, content: str) -> None:
    (tmp_path / "data.json").write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(DataInvalid):
        read(tmp_path / "data.json", tmp_path, 1)


def test_nothing_at_all(tmp_path: Path) -> None:
    with pytest.raises(DataInvalid, match="there are none"):
        Instructions([], 1, {})
    with pytest.raises(DataInvalid):
        read(tmp_path, tmp_path, 1)
