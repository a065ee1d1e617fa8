"""Deleted images leave no bytes behind, in the file or in a backup."""

from __future__ import annotations

import secrets
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from index.backup import back_up
from index.fsck import check_folder
from index.ports import Picture
from index.store.sqlite import FILE_NAME, SqliteStore
from tests.index.samples import make_record

PICTURE_BYTES = 200_000
COUNT = 20


def filled(folder: Path) -> tuple[SqliteStore, list[str], bytes]:
    """A store of originals; the ids, and a part of one of the originals."""
    store = SqliteStore(folder)
    pictures = [secrets.token_bytes(PICTURE_BYTES) for _ in range(COUNT)]
    records = [
        replace(make_record(number), picture=Picture("image/png", data))
        for number, data in enumerate(pictures)
    ]
    store.put(records)
    return store, [record.id for record in records], pictures[3][1000:1100]


def test_the_file_shrinks_with_deletions_and_so_does_a_backup(tmp_path: Path) -> None:
    store, ids, _ = filled(tmp_path / "data")
    file = tmp_path / "data" / FILE_NAME
    for number, id_ in enumerate(ids):
        store.delete([id_])
        if number == COUNT // 2 - 1:
            assert file.stat().st_size < 0.6 * COUNT * PICTURE_BYTES
    assert file.stat().st_size < PICTURE_BYTES
    back_up(tmp_path / "data", tmp_path / "backup")
    assert (tmp_path / "backup" / FILE_NAME).stat().st_size < PICTURE_BYTES
    store.close()


def test_deleted_bytes_are_gone_from_the_files(tmp_path: Path) -> None:
    store, ids, part = filled(tmp_path)
    store.delete(ids[3:4])
    # At once, not only when the store is closed, which a kill may prevent.
    assert all(part not in path.read_bytes() for path in tmp_path.iterdir())
    store.close()
    assert all(part not in path.read_bytes() for path in tmp_path.iterdir())


def test_a_deletion_does_not_wait_for_a_reader(tmp_path: Path) -> None:
    store, ids, part = filled(tmp_path)
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT COUNT(*) FROM images").fetchone()
        store.delete(ids[3:4])
        assert len(store.rows(None)) == COUNT - 1
    store.delete(ids[:1])
    assert all(part not in path.read_bytes() for path in tmp_path.iterdir())
    store.close()


def test_a_repair_lets_an_earlier_file_shrink(tmp_path: Path) -> None:
    store, ids, _ = filled(tmp_path)
    store.close()
    file = tmp_path / FILE_NAME
    with closing(sqlite3.connect(file)) as earlier:
        earlier.execute("PRAGMA journal_mode = DELETE")
        earlier.execute("PRAGMA auto_vacuum = NONE")
        earlier.execute("VACUUM")
    store = SqliteStore(tmp_path)
    store.delete(ids)
    store.close()
    assert file.stat().st_size > COUNT * PICTURE_BYTES / 2
    assert check_folder(tmp_path, repair=True).findings == []
    assert file.stat().st_size < PICTURE_BYTES
