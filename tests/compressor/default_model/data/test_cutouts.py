"""Preparing cut-outs from folders of pictures."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from compressor.default_model.data import cutouts
from compressor.default_model.data.english import names
from compressor.errors import DataInvalid
from tests.compressor.default_model.data import drawing


def test_prepare_crops_names_and_leaves_out_what_has_no_name(tmp_path: Path) -> None:
    drawing.stamp(
        tmp_path / "stamps" / "fruit" / "one",
        "A red apple.",
        "red",
    )
    drawing.stamp(
        tmp_path / "stamps" / "two",
        "A sea lion.",
        "blue",
        "rectangle",
    )
    drawing.stamp(
        tmp_path / "stamps" / "three",
        "Say cheese!",
        "green",
    )
    drawing.stamp(
        tmp_path / "stamps" / "four",
        "A lion.",
        "yellow",
        "rectangle",
    )
    lines = list(
        cutouts.prepare(
            {"tuxpaint": tmp_path / "stamps"},
            tmp_path / "out",
            rejected=["tuxpaint/four"],
        )
    )
    assert [line for line in lines if "rejected" in line] == [
        "tuxpaint/four: rejected (A lion)"
    ]
    assert any("no name (Say cheese)" in line for line in lines)
    found = cutouts.load(tmp_path / "out")
    assert {(c.name, c.colour, c.original) for c in found.cutouts} == {
        ("apple", "red", "fruit/one"),
        ("sea lion", "blue", "two"),
    }
    apple = found.open(found.by_name["apple"][0])
    assert apple.mode == "RGBA"
    assert apple.size == (101, 81)  # without its margin


def test_prepare_gives_the_same_folder_again(tmp_path: Path) -> None:
    drawing.prepared(tmp_path / "a", 10)
    drawing.prepared(tmp_path / "b", 10)
    first, second = (
        tmp_path / run / "prepared" / "objects.jsonl" for run in ("a", "b")
    )
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("what", ["full", "lines", "tiny", "empty"])
def test_no_cut_out_is_left_out(tmp_path: Path, what: str) -> None:
    image = Image.new("RGBA", (100, 100), (0, 0, 0, 0))
    if what == "full":
        image.paste((200, 10, 10, 255), (0, 0, 100, 100))
    elif what == "lines":
        for side in range(100):
            image.putpixel((side, side), (0, 0, 0, 255))
    elif what == "tiny":
        image.paste((200, 10, 10, 255), (40, 40, 50, 50))
    image.save(tmp_path / "apple.png")
    (tmp_path / "apple.txt").write_text("An apple.\n", encoding="utf-8")
    with pytest.raises(DataInvalid, match="no usable pictures"):
        list(
            cutouts.prepare(
                {"tuxpaint": tmp_path},
                tmp_path / "out",
                rejected=(),
            )
        )
    assert not (tmp_path / "out" / "objects.jsonl").exists()


def test_a_broken_picture_does_not_stop_the_others(tmp_path: Path) -> None:
    drawing.stamp(
        tmp_path / "stamps" / "good",
        "An apple.",
        "red",
    )
    drawing.stamp(
        tmp_path / "stamps" / "bad",
        "A pear.",
        "red",
    )
    (tmp_path / "stamps" / "bad.png").write_bytes(b"no picture")
    list(
        cutouts.prepare(
            {"tuxpaint": tmp_path / "stamps"},
            tmp_path / "out",
            rejected=(),
        )
    )
    assert [c.name for c in cutouts.load(tmp_path / "out").cutouts] == ["apple"]


def test_an_unknown_collection_and_a_missing_index_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataInvalid, match="unknown collection 'clipart'"):
        list(
            cutouts.prepare(
                {"clipart": tmp_path},
                tmp_path / "out",
                rejected=(),
            )
        )
    with pytest.raises(DataInvalid, match=r"objects\.jsonl"):
        cutouts.load(tmp_path)


def test_held_out_names_are_about_a_fifth_and_never_in_training(tmp_path: Path) -> None:
    share = sum(map(cutouts.is_held_out, names())) / len(names())
    assert 0.15 < share < 0.25
    everything = drawing.prepared(tmp_path)
    training, held_out = (
        everything.training(excluded=["Alarm Clock"]),
        everything.held_out(),
    )
    assert held_out.names
    assert not set(training.names) & set(held_out.names)
    assert set(training.names) | set(held_out.names) | {"alarm clock"} == set(
        everything.names
    )
    assert "alarm clock" not in training.names
