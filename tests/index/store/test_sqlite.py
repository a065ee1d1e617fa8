"""What only the store on disk can get wrong: its file, its lock, its migrations, damage."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from index.errors import RecordDamaged, StoreBusy, StoreDamaged, StoreError, StoreTooNew
from index.store.record_format import encode_record
from index.store.schema import STEPS, migrate
from index.store.sqlite import FILE_NAME, SqliteStore
from tests.index.samples import (
    FINGERPRINT,
    make_id,
    make_ids,
    make_record,
    make_records,
    same,
)

OPEN = """
import sys
from pathlib import Path
from index.store.sqlite import SqliteStore
SqliteStore(Path(sys.argv[1]))
"""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(tmp_path)
    yield store
    store.close()


def execute(
    folder: Path, statement: str, values: tuple[object, ...] = ()
) -> list[tuple[object, ...]]:
    """Behind the store's back."""
    connection = sqlite3.connect(folder / FILE_NAME, isolation_level=None)
    try:
        return connection.execute(statement, values).fetchall()
    finally:
        connection.close()


def test_everything_is_there_after_a_reopening(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    store.put(make_records(range(4)))
    store.delete([make_id(3)])
    store_id, sizes, last_row = store.store_id, store.sizes(), store.last_row()
    store.close()
    store = SqliteStore(tmp_path)
    try:
        assert store.store_id == store_id
        assert store.last_row() == last_row
        assert store.sizes().record_bytes == sizes.record_bytes
        assert [record.id for _, record in store.scan()] == make_ids(range(3))
        assert store.put([make_record(3)]) == [last_row + 1]
    finally:
        store.close()


def test_every_commit_is_on_the_disk_before_it_returns(store: SqliteStore) -> None:
    for connection in (store._connections._writer, store.connect()):
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
        if connection is not store._connections._writer:
            connection.close()


def test_a_second_opening_is_refused_here_and_in_another_process(
    store: SqliteStore, tmp_path: Path
) -> None:
    store.put([make_record(0)])
    with pytest.raises(StoreBusy):
        SqliteStore(tmp_path)
    other = subprocess.run(
        [sys.executable, "-c", OPEN, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert other.returncode == 1
    assert "StoreBusy" in other.stderr
    assert store.put([make_record(1)]) == [2]


def test_the_lock_goes_with_the_store(tmp_path: Path) -> None:
    SqliteStore(tmp_path).close()
    SqliteStore(tmp_path).close()


def test_another_thread_may_close_the_store(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    closing = threading.Thread(target=store.close)
    closing.start()
    closing.join()
    SqliteStore(tmp_path).close()


def test_a_failed_opening_leaves_no_lock(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"this is no database" * 100)
    for _ in range(2):
        with pytest.raises(StoreDamaged):
            SqliteStore(tmp_path)
    (tmp_path / FILE_NAME).unlink()
    SqliteStore(tmp_path).close()


def test_a_store_of_a_later_version_is_refused_untouched(tmp_path: Path) -> None:
    SqliteStore(tmp_path).close()
    execute(tmp_path, f"PRAGMA user_version = {len(STEPS) + 1}")
    with pytest.raises(StoreTooNew):
        SqliteStore(tmp_path)
    assert execute(tmp_path, "PRAGMA user_version") == [(len(STEPS) + 1,)]


def test_migrating_twice_changes_nothing(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "x.sqlite", isolation_level=None)
    try:
        migrate(connection)
        schema = connection.execute(
            "SELECT sql FROM sqlite_schema ORDER BY name"
        ).fetchall()
        migrate(connection)
        assert (
            connection.execute("SELECT sql FROM sqlite_schema ORDER BY name").fetchall()
            == schema
        )
        assert connection.execute("SELECT COUNT(*) FROM store").fetchone() == (1,)
    finally:
        connection.close()


def test_a_path_that_is_no_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError):
        SqliteStore(tmp_path / "file")


def test_a_damaged_record_is_never_served_but_may_be_deleted(
    store: SqliteStore, tmp_path: Path
) -> None:
    rows = store.put(make_records(range(3)))
    execute(
        tmp_path,
        "UPDATE images SET record = X'00' || substr(record, 2) WHERE row = ?",
        (rows[1],),
    )
    with pytest.raises(RecordDamaged) as caught:
        store.get_many([make_id(0), make_id(1)])
    assert (caught.value.row, caught.value.id) == (rows[1], make_id(1))
    with pytest.raises(RecordDamaged):
        store.get_rows(rows)
    seen = []
    with pytest.raises(RecordDamaged) as caught:
        seen += [row for row, _ in store.scan()]
    assert [row for row, _ in store.scan(after_row=caught.value.row or 0)] == [rows[2]]
    assert store.rows(FINGERPRINT).tolist() == rows
    assert store.delete([make_id(1)]) == [rows[1]]
    assert [record.id for _, record in store.scan()] == [make_id(0), make_id(2)]
    assert execute(
        tmp_path, "SELECT COUNT(*) FROM terms WHERE row = ?", (rows[1],)
    ) == [(0,)]


def test_a_record_in_the_place_of_another_is_damage(
    store: SqliteStore, tmp_path: Path
) -> None:
    store.put([make_record(0), make_record(1)])
    execute(
        tmp_path,
        "UPDATE images SET record = (SELECT record FROM images WHERE row = 1) WHERE row = 2",
    )
    with pytest.raises(RecordDamaged):
        store.get_many([make_id(1)])


def test_a_missing_or_damaged_picture_is_damage(
    store: SqliteStore, tmp_path: Path
) -> None:
    store.put([make_record(0), make_record(3)])
    execute(tmp_path, "UPDATE pictures SET picture = X'0000' WHERE row = 1")
    execute(tmp_path, "DELETE FROM pictures WHERE row = 2")
    for number in (0, 3):
        with pytest.raises(RecordDamaged):
            store.get_many([make_id(number)], with_picture=True)
        assert same(store.get_many([make_id(number)])[0][1], make_record(number))


def test_deleting_leaves_nothing_behind(store: SqliteStore, tmp_path: Path) -> None:
    store.put(make_records(range(6)))
    store.put([make_record(0, metadata={})])
    store.delete(make_ids(range(6)))
    for table in ("images", "pictures", "terms"):
        assert execute(tmp_path, f"SELECT COUNT(*) FROM {table}") == [(0,)]


def test_a_store_of_the_first_version_is_brought_up_to_date(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)
    connection.executescript(STEPS[0])
    connection.execute("INSERT INTO store (store_id) VALUES ('an id')")
    connection.execute("PRAGMA user_version = 1")
    connection.close()
    store = SqliteStore(tmp_path)
    try:
        assert store.store_id == "an id"
        (row,) = store.put([make_record(0)])
        assert store.update([(row, make_record(0, tokens=b"short"))]) == [True]
        assert store.sizes().token_bytes == len(b"short")
    finally:
        store.close()
    assert execute(tmp_path, "PRAGMA user_version") == [(len(STEPS),)]


def test_damage_to_the_type_of_a_value_is_damage(
    store: SqliteStore, tmp_path: Path
) -> None:
    """A flipped bit in SQLite's own header of a row can make text or a number of the bytes."""
    (row,) = store.put([make_record(0)])
    for value in ("'text'", "17", "X''"):
        execute(tmp_path, f"UPDATE images SET record = {value}")
        with pytest.raises(RecordDamaged):
            store.get_rows([row])
    execute(tmp_path, "UPDATE images SET record = ?", (encode_record(make_record(0)),))
    for value in ("'text'", "17", "X''"):
        execute(tmp_path, f"UPDATE pictures SET picture = {value}")
        with pytest.raises(RecordDamaged):
            store.get_many([make_id(0)], with_picture=True)
