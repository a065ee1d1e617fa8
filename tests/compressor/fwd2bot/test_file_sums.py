"""Which files of an export are read at a start, and what the record of checked files is worth."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from time import time

import pytest

from compressor.errors import ModelFilesInvalid
from compressor.fwd2bot.onnx_engine import file_sums as module
from compressor.fwd2bot.onnx_engine.file_sums import (
    CHECKED,
    FileSum,
    check_files,
    file_sums,
)


@pytest.fixture(autouse=True)
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock is a minute ahead of the files' times."""
    monkeypatch.setattr(module.time, "time_ns", lambda: int(time() * 1e9) + 60 * 10**9)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "export"
    place.mkdir()
    for name in ("a", "b"):
        (place / name).write_bytes(name.encode() * 100)
    (place / "manifest.json").write_text("{}")
    return place


@pytest.fixture
def expected(folder: Path) -> dict[str, FileSum]:
    return file_sums(folder, but="manifest.json")


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were read."""
    names: list[str] = []
    sum_of = module._sum_of

    def counted(path: Path) -> FileSum:
        names.append(path.name)
        return sum_of(path)

    monkeypatch.setattr(module, "_sum_of", counted)
    return names


def replace(path: Path, content: bytes) -> None:
    """By a new file, whose state is another within one tick of the clock too."""
    new = path.with_name("new")
    new.write_bytes(content)
    new.replace(path)


def test_sums_are_of_all_files_but_manifest_and_record(
    folder: Path, expected: dict[str, FileSum]
) -> None:
    check_files(folder, expected)
    assert (folder / CHECKED).exists()
    assert set(expected) == {"a", "b"}
    assert file_sums(folder, but="manifest.json") == expected


def test_files_are_read_once(
    folder: Path, expected: dict[str, FileSum], read: list[str]
) -> None:
    check_files(folder, expected)
    assert sorted(read) == ["a", "b"]
    read.clear()
    check_files(folder, expected)
    assert read == []
    check_files(folder, expected, read_all=True)
    assert sorted(read) == ["a", "b"]


def test_a_file_that_changed_just_now_is_read_again(
    folder: Path,
    expected: dict[str, FileSum],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It may change once more within the tick of a clock."""
    monkeypatch.undo()
    check_files(folder, expected)
    assert module._known(folder) == {}


def test_a_file_that_changed_is_read(
    folder: Path, expected: dict[str, FileSum], read: list[str]
) -> None:
    check_files(folder, expected)
    read.clear()
    replace(folder / "b", b"c" * 100)
    with pytest.raises(ModelFilesInvalid, match="/b is damaged"):
        check_files(folder, expected)
    assert read == ["b"]
    replace(folder / "b", b"b" * 100)
    check_files(folder, expected)
    assert read == ["b", "b"]


def test_a_change_is_found_behind_an_old_time(
    folder: Path, expected: dict[str, FileSum]
) -> None:
    """As unpacking and synchronising programs set it."""
    check_files(folder, expected)
    before = (folder / "b").stat()
    (folder / "b").write_bytes(b"c" * 100)
    # Again until the file system's clock has ticked.
    while (folder / "b").stat().st_ctime_ns == before.st_ctime_ns:
        os.utime(folder / "b", ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(ModelFilesInvalid, match="/b is damaged"):
        check_files(folder, expected)


def test_another_file_under_the_name_is_read(
    folder: Path, expected: dict[str, FileSum], read: list[str]
) -> None:
    check_files(folder, expected)
    copied = Path(shutil.copytree(folder, folder.with_name("copied")))
    read.clear()
    check_files(copied, expected)
    assert sorted(read) == ["a", "b"]


def test_a_record_of_another_checksum_is_none(
    folder: Path, expected: dict[str, FileSum], read: list[str]
) -> None:
    """As when the manifest was replaced, and the files were not."""
    check_files(folder, expected)
    other = expected | {"a": expected["b"]}
    with pytest.raises(ModelFilesInvalid, match="/a is damaged"):
        check_files(folder, other)


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"a": {"bytes": 1}}'])
def test_a_damaged_record_is_none_and_written_anew(
    content: bytes, folder: Path, expected: dict[str, FileSum], read: list[str]
) -> None:
    (folder / CHECKED).write_bytes(content)
    check_files(folder, expected)
    assert sorted(read) == ["a", "b"]
    check_files(folder, expected)
    assert len(read) == 2


def test_damaged_files_have_no_record(
    folder: Path, expected: dict[str, FileSum]
) -> None:
    (folder / "b").write_bytes(b"c" * 100)
    with pytest.raises(ModelFilesInvalid):
        check_files(folder, expected)
    assert not (folder / CHECKED).exists()


def test_a_folder_that_cannot_be_written_to_is_checked_all_the_same(
    folder: Path,
    expected: dict[str, FileSum],
    read: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(self: Path, text: str) -> int:
        raise PermissionError("read-only")

    # Permissions do not stop every user that tests run as.
    monkeypatch.setattr(Path, "write_text", refuse)
    for _ in range(2):
        check_files(folder, expected)
    assert sorted(read) == ["a", "a", "b", "b"]
    assert not (folder / CHECKED).exists()
