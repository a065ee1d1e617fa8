"""Backup while in use, verification, restore."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from index import backup as backup_module
from index.backup import MANIFEST, back_up, restore, verify_backup
from index.data_folder import COLLECTIONS, RESTORING, collection_names
from index.errors import BackupDamaged, InvalidTarget, StoreBusy, StoreError
from index.fsck import check_folder
from index.store.sqlite import FILE_NAME
from tests.index.codecs.test_scalar import trained_state
from tests.index.libraries import open_here, opened, page_ids, top
from tests.index.samples import make_id, make_ids, make_image, make_images

BACK_UP = """
import sys
from pathlib import Path
from index.backup import back_up
back_up(*map(Path, sys.argv[1:]))
"""


def test_a_restored_backup_is_the_library_of_that_moment(tmp_path: Path) -> None:
    state = tmp_path / "pq4.faiss"
    state.write_bytes(trained_state("PQ4x4np"))
    library = open_here(tmp_path / "data")
    library.put(make_images(range(10)))
    library.delete([make_id(4)])
    library.close()
    (tmp_path / "data" / "codecs").mkdir()
    (tmp_path / "data" / "codecs" / "pq4@01234567.faiss").write_bytes(
        state.read_bytes()
    )
    library = open_here(tmp_path / "data")
    back_up(tmp_path / "data", tmp_path / "backup")
    library.put([make_image(10)])
    library.close()
    restore(tmp_path / "backup", tmp_path / "restored")
    assert check_folder(tmp_path / "restored").findings == []
    assert (
        tmp_path / "restored" / "codecs" / "pq4@01234567.faiss"
    ).read_bytes() == state.read_bytes()
    library = open_here(tmp_path / "restored")
    try:
        others = [n for n in range(10) if n != 4]
        assert page_ids(library) == make_ids(others)
        assert all(top(library, n) == [make_id(n)] for n in others)
        assert (
            library.get([make_id(0)], with_picture=True)[0].picture
            == make_image(0).picture
        )
        library.put([make_image(10)])
    finally:
        library.close()


def collection(folder: Path, name: str) -> Path:
    return folder / COLLECTIONS / name


@pytest.fixture
def with_collections(tmp_path: Path) -> Path:
    """A data folder with one image in the library, two in `cats`, and none in `empty`."""
    folder = tmp_path / "data"
    numbers = {folder: [0], collection(folder, "cats"): [1, 2]}
    numbers[collection(folder, "empty")] = []
    for path, images in numbers.items():
        with opened(path) as library:
            library.put(make_images(images))
    codecs = collection(folder, "cats") / "codecs"
    codecs.mkdir()
    (codecs / "pq4@01234567.faiss").write_bytes(b"state")
    return folder


def test_collections_are_in_a_backup(with_collections: Path, tmp_path: Path) -> None:
    back_up(with_collections, tmp_path / "backup")
    restored = tmp_path / "restored"
    restore(tmp_path / "backup", restored)
    assert collection_names(restored) == ["cats", "empty"]
    with opened(collection(restored, "cats")) as library:
        assert page_ids(library) == make_ids([1, 2])
    state = collection(restored, "cats") / "codecs" / "pq4@01234567.faiss"
    assert state.read_bytes() == b"state"
    assert not (restored / RESTORING).exists()


def test_other_databases_are_copied_while_they_are_in_use(
    with_collections: Path, tmp_path: Path
) -> None:
    with closing(sqlite3.connect(with_collections / "keys.sqlite")) as keys:
        keys.execute("PRAGMA journal_mode = WAL")
        with keys:
            keys.execute("CREATE TABLE keys (hash TEXT)")
            keys.execute("INSERT INTO keys VALUES ('a')")
        # What is written is in the log still, not in the file.
        back_up(with_collections, tmp_path / "backup")
    restore(tmp_path / "backup", tmp_path / "restored")
    with closing(sqlite3.connect(tmp_path / "restored" / "keys.sqlite")) as keys:
        assert keys.execute("SELECT hash FROM keys").fetchall() == [("a",)]


def test_a_collection_is_not_written_over(
    with_collections: Path, tmp_path: Path
) -> None:
    back_up(with_collections, tmp_path / "backup")
    (with_collections / FILE_NAME).unlink()
    with pytest.raises(StoreError, match="there is a library"):
        restore(tmp_path / "backup", with_collections)
    assert check_folder(collection(with_collections, "cats")).images == 2


def test_a_library_is_not_opened_in_half_a_restore(
    with_collections: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    back_up(with_collections, tmp_path / "backup")
    restored = tmp_path / "restored"

    def cut(source: Path, target: Path) -> None:
        if target == restored / FILE_NAME:
            raise KeyboardInterrupt
        copy_file(source, target)

    copy_file = backup_module._copy_file
    monkeypatch.setattr(backup_module, "_copy_file", cut)
    with pytest.raises(KeyboardInterrupt):
        restore(tmp_path / "backup", restored)
    monkeypatch.undo()
    with pytest.raises(StoreError, match="run it again"):
        open_here(restored)
    restore(tmp_path / "backup", restored)
    assert check_folder(restored).images == 3


def test_a_backup_of_version_1_is_still_restored(backup: Path, tmp_path: Path) -> None:
    manifest = json.loads((backup / MANIFEST).read_bytes())
    manifest["version"] = 1
    (backup / MANIFEST).write_text(json.dumps(manifest))
    restore(backup, tmp_path / "restored")
    assert check_folder(tmp_path / "restored").images == 3


def test_writers_go_on_during_a_backup(tmp_path: Path) -> None:
    """Each backup holds whole batches only, and all that were acknowledged before it began."""
    library = open_here(tmp_path / "data")
    stop = threading.Event()
    acknowledged: list[int] = []
    failures: list[BaseException] = []

    def write() -> None:
        try:
            for batch in range(1000):
                library.put([make_image(batch * 3 + n) for n in range(3)])
                acknowledged.append(batch)
                if stop.is_set():
                    return
        except BaseException as error:
            failures.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(5):
            before = len(acknowledged)
            back_up(tmp_path / "data", tmp_path / f"backup{number}")
            restore(tmp_path / f"backup{number}", tmp_path / f"restored{number}")
            report = check_folder(tmp_path / f"restored{number}")
            assert report.findings == []
            assert report.images % 3 == 0
            assert report.images >= 3 * before
    finally:
        stop.set()
        writer.join()
        library.close()
    assert failures == []


def test_another_process_may_take_the_backup(tmp_path: Path) -> None:
    library = open_here(tmp_path / "data")
    library.put([make_image(0)])
    paths = [str(tmp_path / "data"), str(tmp_path / "backup")]
    subprocess.run([sys.executable, "-c", BACK_UP, *paths], check=True)
    library.put([make_image(1)])
    library.close()
    restore(tmp_path / "backup", tmp_path / "restored")
    assert check_folder(tmp_path / "restored").images == 1


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    library = open_here(tmp_path / "data")
    library.put(make_images(range(3)))
    library.close()
    back_up(tmp_path / "data", tmp_path / "backup")
    return tmp_path / "backup"


def test_damage_to_a_backup_is_found_before_anything_is_restored(
    backup: Path, tmp_path: Path
) -> None:
    verify_backup(backup)
    for path in (backup / FILE_NAME, backup / MANIFEST):
        whole = path.read_bytes()
        positions = (
            range(len(whole)) if path.name == MANIFEST else range(0, len(whole), 4999)
        )
        for position in positions:
            damaged = bytearray(whole)
            damaged[position] ^= 1
            path.write_bytes(damaged)
            if path.name == MANIFEST and _says_the_same(whole, bytes(damaged)):
                continue
            with pytest.raises(BackupDamaged):
                restore(backup, tmp_path / "restored")
        path.write_bytes(whole)
    (backup / "stray").write_text("x")
    with pytest.raises(BackupDamaged):
        verify_backup(backup)
    (backup / "stray").unlink()
    (backup / FILE_NAME).unlink()
    with pytest.raises(BackupDamaged):
        verify_backup(backup)
    assert not (tmp_path / "restored").exists()


def _says_the_same(one: bytes, other: bytes) -> bool:
    """Of two manifests: but for the time it was made."""
    try:
        first, second = json.loads(one), json.loads(other)
    except ValueError:
        return False
    keys = ("version", "files", "files_blake2b")
    return isinstance(second, dict) and all(
        first[key] == second.get(key) for key in keys
    )


def test_a_folder_without_a_manifest_is_no_backup(tmp_path: Path) -> None:
    with pytest.raises(BackupDamaged):
        restore(tmp_path, tmp_path / "restored")


def test_nothing_is_overwritten(backup: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidTarget):
        back_up(tmp_path / "data", backup)
    with pytest.raises(StoreError):
        back_up(tmp_path / "none", tmp_path / "new")
    with pytest.raises(StoreError):
        restore(backup, tmp_path / "data")
    library = open_here(tmp_path / "data")
    with pytest.raises(StoreBusy):
        restore(backup, tmp_path / "data")
    library.close()
    assert check_folder(tmp_path / "data").images == 3


def test_an_interrupted_restore_can_be_done_again(backup: Path, tmp_path: Path) -> None:
    target = tmp_path / "restored"
    (target / "codecs").mkdir(parents=True)
    (target / f"{FILE_NAME}.tmp").write_bytes(b"cut short")
    restore(backup, target)
    assert check_folder(target).images == 3
