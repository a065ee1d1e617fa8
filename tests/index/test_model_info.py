"""What fingerprints stand for: kept beside the data, told of older models too, damage noticed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from index.backup import back_up, restore
from index.errors import StoreDamaged, StoreError, StoreFull
from index.fsck import DAMAGED_FOLDER, check_folder
from index.model_info import (
    FOLDER,
    ModelInfo,
    ModelInfoStore,
    encode_model_info,
    read_model_info,
)
from tests.index.libraries import open_here
from tests.index.samples import FINGERPRINT, OTHER_FINGERPRINT, make_image

MAKER, OTHER = ModelInfo("a model", "adapters"), ModelInfo("another é", "soft words")


def test_older_models_still_tell_theirs(tmp_path: Path) -> None:
    first = open_here(tmp_path, model_info=MAKER)
    first.put([make_image(0)])
    assert first.model_info(FINGERPRINT) == MAKER
    assert first.model_info(OTHER_FINGERPRINT) is None
    first.close()
    second = open_here(tmp_path, fingerprint=OTHER_FINGERPRINT, model_info=OTHER)
    try:
        assert (
            second.model_info(FINGERPRINT),
            second.model_info(OTHER_FINGERPRINT),
        ) == (
            MAKER,
            OTHER,
        )
    finally:
        second.close()


def test_a_library_that_is_told_nothing_knows_nothing(tmp_path: Path) -> None:
    library = open_here(tmp_path)
    assert library.model_info(FINGERPRINT) is None
    assert library.model_info("../../etc/passwd") is None
    library.close()
    assert not (tmp_path / FOLDER).exists()


def test_in_memory_nothing_is_written(tmp_path: Path) -> None:
    library = open_here(tmp_path, store="memory", index="numpy", model_info=MAKER)
    assert library.model_info(FINGERPRINT) == MAKER
    library.close()
    assert list(tmp_path.iterdir()) == []


def test_the_latest_word_counts_and_the_same_is_not_written_twice(
    tmp_path: Path,
) -> None:
    makers = ModelInfoStore(tmp_path / FOLDER)
    makers.keep("ab", MAKER)
    path = tmp_path / FOLDER / "ab.json"
    written = path.stat().st_ino
    makers.keep("ab", MAKER)
    assert path.stat().st_ino == written
    makers.keep("ab", OTHER)
    assert makers.get("ab") == ModelInfoStore(tmp_path / FOLDER).get("ab") == OTHER
    assert [each.name for each in path.parent.iterdir()] == ["ab.json"]
    with pytest.raises(StoreError):
        makers.keep("../ab", MAKER)


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[:-9],
        lambda data: b"",
        lambda data: b"\xff" * 40,
        lambda data: b"[]",
        lambda data: b"{}",
        lambda data: data.replace(b"a model", b"a muddle"),
        lambda data: data.replace(b'"version": 1', b'"version": 2'),
        lambda data: encode_model_info(OTHER_FINGERPRINT, MAKER),
    ],
)
def test_damage_is_no_answer_is_found_and_is_put_aside(
    tmp_path: Path, change: object
) -> None:
    open_here(tmp_path, model_info=MAKER).close()
    open_here(tmp_path, fingerprint=OTHER_FINGERPRINT, model_info=OTHER).close()
    path = tmp_path / FOLDER / f"{FINGERPRINT}.json"
    damaged = change(path.read_bytes())
    path.write_bytes(damaged)
    with pytest.raises(StoreDamaged):
        read_model_info(path)
    library = open_here(tmp_path, fingerprint=OTHER_FINGERPRINT, model_info=OTHER)
    assert (library.model_info(FINGERPRINT), library.model_info(OTHER_FINGERPRINT)) == (
        None,
        OTHER,
    )
    library.close()
    assert [(f.part, f.repaired) for f in check_folder(tmp_path).findings] == [
        ("maker", False)
    ]
    assert check_folder(tmp_path, repair=True).sound
    assert check_folder(tmp_path).findings == []
    assert (tmp_path / DAMAGED_FOLDER / path.name).read_bytes() == damaged
    open_here(tmp_path, model_info=MAKER).close()
    assert read_model_info(path) == MAKER


def test_a_backup_has_them(tmp_path: Path) -> None:
    library = open_here(tmp_path / "data", model_info=MAKER)
    library.put([make_image(0)])
    library.close()
    back_up(tmp_path / "data", tmp_path / "backup")
    restore(tmp_path / "backup", tmp_path / "restored")
    assert (
        read_model_info(tmp_path / "restored" / FOLDER / f"{FINGERPRINT}.json") == MAKER
    )


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("index.model_info.write_bytes", full)
    with pytest.raises(StoreFull):
        open_here(tmp_path, model_info=MAKER)
    monkeypatch.undo()
    open_here(tmp_path, model_info=MAKER).close()  # and nothing is left locked


def test_the_file_says_what_it_is() -> None:
    body = json.loads(encode_model_info("ab", MAKER))
    assert {**body, "blake2b": ""} == {
        "version": 1,
        "fingerprint": "ab",
        "model": "a model",
        "mode": "adapters",
        "blake2b": "",
    }
