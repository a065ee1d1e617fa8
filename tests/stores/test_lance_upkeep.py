"""What writers do for a dataset beside their commits, and what stays through it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from index.ports import Position
from tests.index.libraries import assert_found, opened
from tests.index.samples import (
    FINGERPRINT,
    make_id,
    make_ids,
    make_image,
    make_images,
    make_record,
    make_records,
    same,
)

pytestmark = pytest.mark.stores
lance = pytest.importorskip("lance")

from index.store.lance.store import LanceStore  # noqa: E402


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "library.lance"


@pytest.fixture
def store(place: Path, tmp_path: Path) -> Iterator[LanceStore]:
    store = LanceStore(str(place), tmp_path)
    yield store
    store.close()


def dataset(place: Path) -> Any:
    return lance.dataset(str(place))


def stored_bytes(place: Path) -> bytes:
    """All data that is in the files of a dataset."""
    return b"".join(path.read_bytes() for path in (place / "data").iterdir())


def test_fragments_stay_few_and_nothing_changes(store: LanceStore, place: Path) -> None:
    rows: list[int] = []
    for number in range(40):
        rows += store.put([make_record(number)])
    store.delete([make_id(7)])
    assert len(dataset(place).get_fragments()) <= 16
    kept = [number for number in range(40) if number != 7]
    assert [row for row, _ in store.scan()] == [rows[number] for number in kept]
    for number, item in zip(
        kept, store.get_many(make_ids(kept), with_picture=True), strict=True
    ):
        assert item is not None
        assert same(item[1], make_record(number), with_picture=True)
    assert store.sizes().images == 39


def test_full_fragments_are_indexed_and_found_by_the_index(
    store: LanceStore, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("index.store.lance.upkeep._FULL_LINES", 20)
    rows: list[int] = []
    for number in range(60):
        rows += store.put([make_record(number)])
    indexes = dataset(place).describe_indices()
    assert sorted(index.field_names for index in indexes) == [["id"], ["row"]]
    assert all(index.num_rows_indexed >= 20 for index in indexes)
    plan = dataset(place).scanner(filter="id = 'x'").explain_plan()
    assert "ScalarIndexQuery" in plan
    (new_row,) = store.put([make_record(5, metadata={"new": True})])
    store.delete([make_id(6)])
    items = store.get_many([make_id(5), make_id(6), make_id(59)])
    assert [item and item[0] for item in items] == [new_row, None, rows[59]]
    assert store.get_rows([rows[5], rows[6]]) == [None, None]
    expected = [row for row in rows if row not in (rows[5], rows[6])] + [new_row]
    assert [row for row, _ in store.scan()] == expected


def test_versions_that_nobody_needs_go_and_tagged_ones_stay(
    store: LanceStore, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "index.store.lance.upkeep._KEPT_VERSIONS", timedelta(microseconds=1)
    )
    monkeypatch.setattr("index.store.lance.upkeep._CLEANUP_PERIOD_S", 0.0)
    store.put([make_record(0)])
    first = dataset(place)
    first.tags.create("backup", first.version)
    for number in range(1, 30):
        store.put([make_record(number)])
    assert len(dataset(place).versions()) < 20
    backup = lance.dataset(str(place), version="backup")
    assert backup.count_rows("row IS NOT NULL") == 1
    assert len(list(store.scan())) == 30


def test_a_backup_is_restored(tmp_path: Path) -> None:
    """As docs/operations.md says."""
    url = f"lance://{tmp_path}/lance"
    place = tmp_path / "lance" / "library.lance"
    with opened(tmp_path / "a", store=url) as library:
        library.put(make_images(range(3)))
        library.delete([make_id(0)])
        dataset(place).tags.create("2026-11-28", dataset(place).version)
        library.delete(make_ids([1, 2]))
        library.put([make_image(3)])
    lance.dataset(str(place), version="2026-11-28").restore()
    with opened(tmp_path / "a", store=url) as library:
        assert_found(library, [1, 2])
        assert library.get(make_ids([0, 3])) == [None, None]
        library.put([make_image(4)])
        assert_found(library, [1, 2, 4])


def test_deleted_images_are_got_rid_of_at_once(store: LanceStore, place: Path) -> None:
    """As docs/operations.md says."""
    store.put(make_records(range(30)))
    assert b"picture 9" in stored_bytes(place)
    store.delete([make_id(9)])
    library = dataset(place)
    library.optimize.compact_files(materialize_deletions_threshold=0.0)
    library.cleanup_old_versions(
        older_than=timedelta(0), error_if_tagged_old_versions=False
    )
    assert b"picture 9" not in stored_bytes(place)
    assert b"picture 12" in stored_bytes(place)
    assert len(list(store.scan())) == 29


def test_removals_are_forgotten_in_time(
    store: LanceStore, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("index.store.lance.upkeep._KEPT_REMOVALS", 10)
    store.put(make_records(range(40)))
    start = store.position()
    for number in range(30):
        store.delete([make_id(number)])
    assert store.changes(FINGERPRINT, start).removed is None
    late = Position(row=start.row, removal=store.position().removal - 10)
    removed = store.changes(FINGERPRINT, late).removed
    assert removed is not None
    assert len(removed) == 10
    assert dataset(place).count_rows("removal IS NOT NULL") < 30
    assert store.sizes().images == 10


def test_tells_that_it_is_an_earlier_copy_of_itself(store: LanceStore) -> None:
    store.put([make_record(0)])
    assert store.changes(FINGERPRINT, Position(row=7, removal=0)).removed is None
