"""Folders of questioned photographs, and the command that makes them."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from compressor.default_model.checkpoints import load_tokenizer
from compressor.default_model.cli import data
from compressor.default_model.data.label_questions import queries, questions
from compressor.default_model.data.question_folder import DESCRIPTIVE, write
from compressor.training import datasets

CAPTIONS = ["A brown dog runs in the snow .", "A dog in the snow .", "A dog ."]


def collection(folder: Path, *records: dict[str, object]) -> Path:
    (folder / "images").mkdir()
    for record in records:
        Image.new("RGB", (8, 8)).save(folder / "images" / str(record["file"]))
    index = folder / "index.jsonl"
    index.write_text("".join(json.dumps(record) + "\n" for record in records))
    return index


def test_the_folder_is_one_to_train_on(tmp_path: Path) -> None:
    index = collection(
        tmp_path,
        {"file": "a.png", "captions": CAPTIONS},
        {"file": "b.png", "captions": ["Two girls jump .", "Two girls ."]},
    )
    kinds = write(index, tmp_path / "out", seed=0)
    first, second = datasets.read(tmp_path / "out", tmp_path).entries
    assert (
        len(first.questions)
        + len(second.questions)
        + len([*first.conversations, *second.conversations])
        == kinds.total()
    )
    assert first.captions[0] == "A brown dog runs in the snow."
    assert first.queries
    assert first.conversations
    assert first.open()[0].size == (8, 8)


def test_the_seed_alone_decides(tmp_path: Path) -> None:
    index = collection(tmp_path, {"file": "a.png", "captions": CAPTIONS})
    texts = []
    for name, seed in (("one", 0), ("two", 0), ("three", 1)):
        write(index, tmp_path / name, seed)
        texts.append((tmp_path / name / "index.jsonl").read_text())
    assert texts[0] == texts[1]
    assert texts[0] != texts[2]


def test_descriptive_questions_are_those_of_kinds_that_need_the_picture(
    tmp_path: Path,
) -> None:
    index = collection(
        tmp_path,
        {"file": "a.png", "captions": CAPTIONS},
        {"file": "b.png", "label": "beagle"},
    )
    everything = write(index, tmp_path / "all", seed=0)
    kinds = write(index, tmp_path / "out", seed=0, descriptive=True)
    assert kinds == Counter(
        {kind: count for kind, count in everything.items() if kind in DESCRIPTIVE}
    )
    assert 0 < kinds.total() < everything.total()
    for entry in datasets.read(tmp_path / "out", tmp_path).entries:
        assert entry.queries
        assert not entry.conversations


def test_labels_are_asked_for_in_many_ways(tmp_path: Path) -> None:
    index = collection(
        tmp_path,
        {"file": "a.png", "label": "beagle"},
        {"file": "b.png", "captions": CAPTIONS},
        {"file": "c.png", "label": "sunglasses"},
    )
    write(index, tmp_path / "out", seed=0, only="labels")
    lines = (tmp_path / "out" / "index.jsonl").read_text().splitlines()
    beagle, glasses = (json.loads(line) for line in lines)
    assert beagle["queries"][:3] == ["beagle", "beagles", "a beagle"]
    assert {"A beagle.", "Beagle.", "A dog.", "Yes.", "No."} <= {
        answer for _, answer, _ in beagle["questions"]
    }
    assert "Sunglasses." in {answer for _, answer, _ in glasses["questions"]}


def test_renamed_photographs_are_asked_for_by_names_that_the_model_can_spell(
    tmp_path: Path,
) -> None:
    index = collection(
        tmp_path,
        {"file": "a.png", "label": "beagle"},
        {"file": "b.png", "captions": CAPTIONS},
        {"file": "c.png", "label": "sunglasses"},
    )
    write(index, tmp_path / "out", seed=0, renamed=3)
    entries = datasets.read(tmp_path / "out", tmp_path).entries
    assert [entry.id for entry in entries] == ["a.png"] * 3 + ["c.png"] * 3
    tokenizer = load_tokenizer()
    names = [entry.queries[0] for entry in entries]
    assert len(set(names)) == 6
    for name, entry in zip(names, entries, strict=True):
        ids = entry.model_inputs["name_ids"]
        spelt = tokenizer(f" {name}", add_special_tokens=False)["input_ids"]
        assert list(ids[: len(spelt)]) == spelt
        (percent,) = entry.model_inputs["name_percent"]
        assert 50 < percent <= 100  # the name stays the likeliest
        for qa in entry.questions:
            assert name.lower() in qa.answer.lower(), qa
        assert all(name in caption for caption in entry.captions)


def test_a_label_is_not_asked_for_in_vain_beside_its_like() -> None:
    for seed in range(40):
        for qa in questions(
            "beagle", ["beagle", "basset", "tench"], random.Random(seed)
        ):
            assert "basset" not in qa.question
    assert queries("ox") == ["ox", "oxen", "an ox"]


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([], "no photograph with a caption or a label"),
        ([{"file": "a.png", "captions": [" . "]}], "neither a label nor a caption"),
    ],
)
def test_an_index_without_anything_to_ask(
    tmp_path: Path, records: list[dict[str, object]], message: str
) -> None:
    index = collection(tmp_path, *records)
    result = CliRunner().invoke(data, ["questions", str(index), str(tmp_path / "out")])
    assert result.exit_code == 1
    assert message in result.output
    assert not (tmp_path / "out").exists()


def test_a_missing_index_is_one_clear_line(tmp_path: Path) -> None:
    arguments = ["questions", str(tmp_path / "none.jsonl"), str(tmp_path / "out")]
    result = CliRunner().invoke(data, arguments)
    assert result.exit_code == 1
    assert "none.jsonl" in result.output
    assert "Traceback" not in result.output


def test_groups_of_photographs_are_samples_of_several_images(tmp_path: Path) -> None:
    index = collection(
        tmp_path,
        {"file": "a.png", "captions": CAPTIONS},
        {"file": "b.png", "captions": ["Two girls jump .", "Two girls ."]},
        {"file": "c.png", "label": "beagle"},
    )
    options = ["--together", "5"]
    result = CliRunner().invoke(
        data, ["questions", str(index), str(tmp_path / "out"), *options]
    )
    assert result.exit_code == 0, result.output
    entries = datasets.read(tmp_path / "out", tmp_path).entries
    assert len(entries) == 5
    for entry in entries:
        assert sorted(entry.id.split()) == ["a.png", "b.png"]
        assert len(entry.open()) == 2
        assert all(qa.kind.startswith("several_") for qa in entry.questions)


def test_groups_need_two_photographs_with_captions(tmp_path: Path) -> None:
    index = collection(
        tmp_path,
        {"file": "a.png", "captions": CAPTIONS},
        {"file": "c.png", "label": "beagle"},
    )
    arguments = ["questions", str(index), str(tmp_path / "out"), "--together", "5"]
    result = CliRunner().invoke(data, arguments)
    assert result.exit_code == 1
    assert "need two with captions" in result.output
    result = CliRunner().invoke(data, [*arguments, "--descriptive"])
    assert result.exit_code == 2


def test_a_label_is_found_by_and_describes_nothing(tmp_path: Path) -> None:
    """Held-out photographs keep it as a caption, by which evaluations rank them."""
    index = collection(
        tmp_path,
        {"file": "in_1.png", "label": "beagle"},
        {"file": "a.png", "label": "zebra"},
    )
    write(index, tmp_path / "trained", seed=0)
    (trained,) = datasets.read(tmp_path / "trained", tmp_path).entries
    assert not trained.captions
    assert {"zebra", "a photo of a zebra"} <= set(trained.queries)
    write(index, tmp_path / "kept", seed=0, held_out=True)
    (kept,) = datasets.read(tmp_path / "kept", tmp_path).entries
    assert "a photo of a beagle" in kept.captions


def test_the_command_counts_kinds(tmp_path: Path) -> None:
    index = collection(tmp_path, {"file": "a.png", "captions": CAPTIONS})
    arguments = ["questions", str(index), str(tmp_path / "out"), "--only", "captions"]
    result = CliRunner().invoke(data, arguments)
    assert result.exit_code == 0, result.output
    assert "doing" in result.output


def test_held_out_photographs_are_asked_about_alone(tmp_path: Path) -> None:
    """Of the files of a prefix a fixed number is held out; these two prefixes share one index."""
    index = collection(
        tmp_path,
        {"file": "fl_1.png", "captions": CAPTIONS},
        {"file": "a.png", "captions": CAPTIONS},
    )
    asked = []
    for name, options in (("trained", []), ("kept", ["--held-out"])):
        arguments = ["questions", str(index), str(tmp_path / name), *options]
        result = CliRunner().invoke(data, arguments)
        assert result.exit_code == 0, result.output
        lines = (tmp_path / name / "index.jsonl").read_text().splitlines()
        asked.append([json.loads(line)["file"] for line in lines])
    assert asked == [["a.png"], ["fl_1.png"]]
