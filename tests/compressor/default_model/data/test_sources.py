"""The readers of the three collections of pictures."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from compressor.default_model.data import cutouts, english
from compressor.default_model.data.cutouts import Picture, prepare
from compressor.errors import DataInvalid, ToolMissing

SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" xmlns:dc="http://purl.org/dc/elements/1.1/" '
    'width="20" height="10">'
    '<metadata><dc:title>{}</dc:title></metadata><circle cx="5" cy="5" r="4" fill="#ff0000"/></svg>'
)


def named(pictures: list[Picture]) -> dict[str, str | None]:
    found = {}
    for picture in pictures:
        name = next(filter(None, map(english.lookup, picture.titles)), None)
        found[picture.path.stem] = name.text if name else None
    return found


def test_tuxpaint_takes_the_first_line_up_to_its_end(tmp_path: Path) -> None:
    for stem, text in {
        "cup": "A cup of coffee.\nde=Eine Tasse.",
        "hen": "A hen—it lays eggs!",
        "fuji": "A “Fuji” apple.",
        "odd": "Here it comes!",
        "cup_desc": "A cup of coffee.",
    }.items():
        (tmp_path / f"{stem}.txt").write_text(text, encoding="utf-8")
        (tmp_path / f"{stem}.png").touch()
    (tmp_path / "pear.txt").write_text("A pear.", encoding="utf-8")  # without a picture
    found = named(list(cutouts.tuxpaint(tmp_path)))
    assert found == {
        "cup": "cup of coffee",
        "hen": "chicken",
        "fuji": "apple",
        "odd": None,
    }


def test_openclipart_takes_the_title_or_the_beginning_of_the_file_name(
    tmp_path: Path,
) -> None:
    for path, title in {
        "food/one": "Red Apple",
        "food/pear_some_maker_01": "Clipart by Some Maker - plate",
        "food/apple_bw": "Apple",
        "computer/icons/camera": "Camera",
        "food/strange": "Strange &amp; wild",
    }.items():
        (tmp_path / path).parent.mkdir(
            parents=True,
            exist_ok=True,
        )
        (tmp_path / f"{path}.svg").write_text(SVG.format(title), encoding="utf-8")
    assert named(list(cutouts.openclipart(tmp_path))) == {
        "one": "apple",
        "pear_some_maker_01": "pear",
        "strange": None,
    }


def test_openmoji_takes_things_and_leaves_flags_brands_and_skin_tones(
    tmp_path: Path,
) -> None:
    rows = [
        ("1F34E", "food-drink", "food-fruit", "red apple", ""),
        ("1F1E6", "flags", "country-flag", "flag", ""),
        ("E042", "extras-openmoji", "brand", "apple", ""),
        ("1F442", "people-body", "body-parts", "ear", "2"),
        ("1F34F", "food-drink", "food-fruit", "green apple", ""),  # has no file
    ]
    (tmp_path / "data").mkdir()
    (tmp_path / "color" / "svg").mkdir(parents=True)
    lines = [
        "hexcode,group,subgroups,annotation,skintone",
        *(",".join(row) for row in rows),
    ]
    (tmp_path / "data" / "openmoji.csv").write_text("\n".join(lines), encoding="utf-8")
    for row in rows[:4]:
        (tmp_path / "color" / "svg" / f"{row[0]}.svg").write_text(
            SVG.format(""), encoding="utf-8"
        )
    assert named(list(cutouts.openmoji(tmp_path))) == {"1F34E": "apple"}
    with pytest.raises(DataInvalid, match=r"openmoji\.csv"):
        list(cutouts.openmoji(tmp_path / "missing"))


def test_drawings_are_drawn_with_transparency(tmp_path: Path) -> None:
    pytest.importorskip("resvg_py", reason="the rasteriser of the extra `train`")
    (tmp_path / "circle.svg").write_text(SVG.format("circle"), encoding="utf-8")
    image = Picture("openclipart", tmp_path / "circle.svg", ("circle",)).open()
    assert image.size == (cutouts.DRAWN_PX, cutouts.DRAWN_PX // 2)
    assert image.getpixel((0, 0)) == (0, 0, 0, 0)
    assert image.getpixel((80, 80)) == (255, 0, 0, 255)


def test_a_broken_drawing_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("resvg_py", reason="the rasteriser of the extra `train`")
    (tmp_path / "bad.svg").write_text("<svg", encoding="utf-8")
    with pytest.raises(DataInvalid, match=r"bad\.svg"):
        Picture("openclipart", tmp_path / "bad.svg", ("bad",)).open()


def test_without_the_rasteriser_preparing_stops_and_leaves_no_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    stamps = tmp_path / "stamps"
    stamps.mkdir()
    (stamps / "apple.svg").write_text("<svg/>")
    (stamps / "apple.txt").write_text("An apple.")
    with pytest.raises(ToolMissing, match="extra `train`"):
        list(prepare({"tuxpaint": stamps}, tmp_path / "objects"))
    assert not (tmp_path / "objects" / "objects.jsonl").exists()
