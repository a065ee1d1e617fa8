"""Samples from people's own files, good and bad."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from compressor.errors import DataInvalid
from compressor.training.datasets import Dataset, Entry, read
from compressor.training.sample import QA

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


def red(entry: Entry) -> int:
    """The number of a picture that `pictures` made."""
    pixel = entry.open()[0].getpixel((0, 0))
    assert isinstance(pixel, tuple)
    return int(pixel[0])


def test_turns_of_llavas_format_stay_in_their_conversation(tmp_path: Path) -> None:
    dataset = read(llava(tmp_path), tmp_path / "images")
    assert (
        len(dataset.entries) == len({red(entry) for entry in dataset.entries}) == GOOD
    )
    for entry in dataset.entries:
        (conversation,) = entry.conversations
        assert [(turn.question, turn.answer) for turn in conversation] == [
            ("What is it?", f"Number {red(entry)}."),
            ("Sure?", "Yes."),
        ]
        assert (entry.captions, entry.questions) == ((), ())


def test_a_conversation_ends_before_a_turn_that_is_empty(tmp_path: Path) -> None:
    texts = ["<image>\nA?", "a.", "B?", " ", "C?", "c."]
    turns = [{"value": text} for text in texts]
    dataset = read(
        llava(tmp_path, {"image": "0.png", "conversations": turns}), tmp_path / "images"
    )
    (conversation,) = dataset.entries[-1].conversations
    assert [turn.answer for turn in conversation] == ["a."]


def test_an_index_with_captions_and_questions(tmp_path: Path) -> None:
    pictures(tmp_path / "images", 2)
    lines = [
        {
            "file": "0.png",
            "captions": ["a red square"],
            "questions": [["Colour?", "Red.", "colour"], ["What?", "It."], ["", "No."]],
        },
        {"file": "1.png", "captions": ["word " * 40]},
    ]
    (tmp_path / "index.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in lines)
    )
    first, second = read(tmp_path, tmp_path).entries
    assert first.captions == ("a red square",)
    assert [qa.answer for qa in first.questions] == ["Red.", "It."]
    assert [qa.kind for qa in first.questions] == ["colour", "instruction"]
    assert second.captions == (("word " * 40).strip(),)


def test_an_index_with_several_images_together(tmp_path: Path) -> None:
    pictures(tmp_path / "images", 20)
    questions = [["Which one is red?", "The first one."]]
    lines = [
        {"files": [f"{number}.png", "0.png"], "questions": questions}
        for number in range(20)
    ]
    lines += [
        {"files": ["0.png", "lost.png"], "questions": questions},
        {"files": ["0.png", "1.png"], "questions": questions, "captions": ["red"]},
    ]
    (tmp_path / "index.jsonl").write_text("\n".join(map(json.dumps, lines)))
    dataset = read(tmp_path, tmp_path)
    pixels = [image.getpixel((0, 0)) for image in dataset.entries[7].open()]
    assert pixels == [(7, 0, 0), (0, 0, 0)]
    assert len(dataset.entries) == 20
    assert dataset.skipped == {"no image": 1, "a broken line": 1}


def test_several_images_in_llavas_format(tmp_path: Path) -> None:
    turns = [{"value": "<image>\n<image>\nWhich?"}, {"value": "Both."}]
    record = {"image": ["0.png", "1.png"], "conversations": turns}
    entry = read(llava(tmp_path, record), tmp_path / "images").entries[-1]
    assert len(entry.open()) == 2
    assert entry.conversations == ((QA("Which?", "Both.", "instruction"),),)


def test_an_index_with_conversations_and_queries(tmp_path: Path) -> None:
    pictures(tmp_path / "images", 10)
    talk = [["What is it?", "A square."], ["Its colour?", "Red."]]
    gap = [["What is it?", "A square."], ["", "Red."], ["Sure?", "Yes."]]
    lines = [
        {"file": "0.png", "conversations": [talk, gap, []], "queries": ["square", " "]},
        *({"file": f"{number}.png", "captions": ["red"]} for number in range(1, 10)),
        {"file": "9.png", "conversations": [["What is it?", "A square."]]},
        {"file": "8.png", "captions": ["red"], "model_inputs": {"name_ids": [7, 8]}},
    ]
    (tmp_path / "index.jsonl").write_text("\n".join(map(json.dumps, lines)))
    dataset = read(tmp_path, tmp_path)
    first = dataset.entries[0]
    answers = [[turn.answer for turn in each] for each in first.conversations]
    assert answers == [["A square.", "Red."], ["A square."]]
    assert first.queries == ("square",)
    assert dataset.entries[-1].model_inputs == {"name_ids": (7, 8)}
    assert dataset.skipped == {"a broken line": 1}


def jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(buffer, "JPEG")
    return buffer.getvalue()


def tar(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as shard:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            shard.addfile(member, io.BytesIO(data))
    return path


def test_shards_of_pictures_and_captions(tmp_path: Path) -> None:
    caption = json.dumps({"caption": "red again"}).encode()
    files = {"0.jpg": jpeg(), "0.txt": b"red", "1.jpg": jpeg(), "1.json": caption}
    tar(tmp_path / "a.tar", files)
    entries = read(tmp_path, tmp_path).entries
    assert {entry.captions for entry in entries} == {("red",), ("red again",)}
    assert {entry.open()[0].size for entry in entries} == {(8, 8)}
    assert len({entry.id for entry in entries}) == 2


@pytest.mark.parametrize("kept", [3000, 700, 20])
def test_a_shard_that_is_cut_off_is_refused(tmp_path: Path, kept: int) -> None:
    files = {
        f"{n}.{kind}": data
        for n in range(4)
        for kind, data in (("jpg", jpeg()), ("txt", b"a"))
    }
    shard = tar(tmp_path / "a.tar", files)
    shard.write_bytes(shard.read_bytes()[:kept])
    with pytest.raises(
        DataInvalid, match=r"a\.tar is cut off or no tar file"
    ) as refused:
        read(tmp_path, tmp_path)
    assert "\n" not in str(refused.value)


def test_a_broken_image_is_told_by_its_name(tmp_path: Path) -> None:
    tar(tmp_path / "a.tar", {"0.jpg": jpeg()[:200], "0.txt": b"red"})
    (entry,) = read(tmp_path, tmp_path).entries
    with pytest.raises(DataInvalid, match=r"0\.jpg in .*a\.tar is no readable image"):
        entry.open()


def test_an_image_is_held_out_whatever_else_there_is(tmp_path: Path) -> None:
    dataset = read(llava(tmp_path), tmp_path / "images")
    twice = Dataset([*dataset.entries, *dataset.entries], {})
    training, held_out = dataset.split(0.3)
    assert len(training.entries) + len(held_out.entries) == GOOD
    assert 0 < len(held_out.entries) < GOOD / 2
    names = {entry.id for entry in held_out.entries}
    assert not names & {entry.id for entry in training.entries}
    assert {entry.id for entry in twice.split(0.3)[1].entries} == names
    assert names <= {entry.id for entry in dataset.split(0.6)[1].entries}
    assert not dataset.split(0.0)[1].entries


def test_what_cannot_be_used_is_counted_and_a_little_of_it_is_let_pass(
    tmp_path: Path,
) -> None:
    data = llava(
        tmp_path, {"image": "gone.png", "conversations": []}, {"conversations": "none"}
    )
    assert read(data, tmp_path / "images").skipped == {
        "no image": 1,
        "no conversation": 1,
    }


def test_too_much_of_it_stops_the_run(tmp_path: Path) -> None:
    data = llava(
        tmp_path, *[{"image": f"gone-{n}.png", "conversations": []} for n in range(5)]
    )
    with pytest.raises(
        DataInvalid, match="of 25 samples 20 can be used: 5 with no image"
    ):
        read(data, tmp_path / "images")
    pictures(tmp_path / "index" / "images")
    (tmp_path / "index" / "index.jsonl").write_text(
        '{"file": "0.png", "captions": ["a"]}\n{broken\n'
    )
    with pytest.raises(DataInvalid, match="1 with a broken line"):
        read(tmp_path / "index", tmp_path)


@pytest.mark.parametrize("content", ["{", "{}", "[]", "\ud800"])
def test_files_that_hold_no_samples(tmp_path: Path, content: str) -> None:
    (tmp_path / "data.json").write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(DataInvalid):
        read(tmp_path / "data.json", tmp_path)


def test_nothing_at_all(tmp_path: Path) -> None:
    with pytest.raises(DataInvalid, match="there are none"):
        read(tmp_path, tmp_path)
