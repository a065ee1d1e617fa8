"""Fetching runs stand-ins for apt-get, dpkg and npm that write what the real ones would."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from compressor.default_model.data import cutouts
from compressor.default_model.data.__main__ import main
from compressor.errors import DataInvalid
from tests.compressor.default_model.data import drawing

ALL = ("tuxpaint", "openclipart", "openmoji", "wordnet")


@pytest.fixture
def package_managers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    archive = tmp_path / "openmoji.tgz"
    (tmp_path / "svg").mkdir()
    (tmp_path / "svg" / "openmoji.csv").write_text("hexcode\n", encoding="utf-8")
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tmp_path / "svg", "package/data")
        tar.add(tmp_path / "svg", "package/dict")
    scripts = {
        "apt-get": 'test "$1" = download && echo deb > "$2_1_all.deb"',
        "dpkg": 'test -f "$2" && mkdir -p "$3/usr/share/tuxpaint/stamps" '
        '"$3/usr/share/openclipart/svg"',
        "npm": f'cp "{archive}" .',
    }
    for name, body in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


@pytest.mark.usefixtures("package_managers")
@pytest.mark.parametrize("relative", [False, True])
def test_fetch_unpacks_each_collection_once(
    relative: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    target = Path("collections") if relative else tmp_path / "collections"
    assert list(cutouts.fetch(target)) == [f"{name}: fetched" for name in ALL]
    assert all(
        folder.is_dir()
        for folder in (
            *cutouts.folders(target).values(),
            cutouts.wordnet_folder(target),
        )
    )
    assert list(cutouts.fetch(target)) == [f"{name}: already there" for name in ALL]


def test_a_failing_download_is_told_and_leaves_nothing_that_looks_complete(
    package_managers: Path, tmp_path: Path
) -> None:
    (package_managers / "apt-get").write_text(
        "#!/bin/sh\necho no network >&2; exit 100\n", encoding="utf-8"
    )
    with pytest.raises(DataInvalid, match="no network"):
        list(cutouts.fetch(tmp_path / "collections"))
    assert not any(
        folder.exists() for folder in cutouts.folders(tmp_path / "collections").values()
    )


def test_prepare_and_sheet(tmp_path: Path) -> None:
    for number, title in enumerate(
        ("apple", "pear", "cat", "dog", "hammer", "balloon")
    ):
        drawing.stamp(
            tmp_path / "stamps" / title,
            f"A {title}.",
            list(drawing.PAINT)[number % 4],
        )
        with Image.open(tmp_path / "stamps" / f"{title}.png") as image:
            image.resize((160 + number, 140)).save(tmp_path / "stamps" / f"{title}.png")
    run = CliRunner().invoke
    prepared, log = tmp_path / "prepared", tmp_path / "log"
    result = run(
        main,
        [
            "prepare",
            str(prepared),
            "--source",
            f"tuxpaint={tmp_path / 'stamps'}",
            "--log",
            str(log),
        ],
    )
    assert result.exit_code == 0, result.output
    assert "6 objects, 6 names" in result.output
    assert "tuxpaint/apple: apple" in log.read_text(encoding="utf-8")
    result = run(
        main,
        [
            "sheet",
            str(prepared),
            str(tmp_path / "sheet.png"),
            "--scenes",
            "5",
        ],
    )
    assert result.exit_code == 0, result.output
    with Image.open(tmp_path / "sheet.png") as image:
        assert image.width == 5 * 448


def test_wrong_arguments_are_told(tmp_path: Path) -> None:
    run = CliRunner().invoke
    assert (
        "give --collections or --source" in run(main, ["prepare", str(tmp_path)]).output
    )
    assert (
        "NAME=FOLDER"
        in run(main, ["prepare", str(tmp_path), "--source", "tuxpaint"]).output
    )
    result = run(main, ["sheet", str(tmp_path), str(tmp_path / "x.png")])
    assert result.exit_code == 1
    assert "objects.jsonl" in result.output
