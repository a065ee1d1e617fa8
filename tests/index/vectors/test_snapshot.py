"""Which snapshots of a vector index a library loads, keeps and deletes."""

from __future__ import annotations

from pathlib import Path

import pytest

from index.ports import VectorIndex
from index.registry import INDEXES, current_index_name, former_names
from index.store.memory import MemoryStore
from index.vectors.numpy_index import NumpyIndex
from index.vectors.snapshot import SnapshotManager
from tests.index.samples import EMBEDDING_SIZE, make_record, rows_of, unit_vectors


def filled_index() -> NumpyIndex:
    index = NumpyIndex(EMBEDDING_SIZE)
    index.add(rows_of(1, 2), unit_vectors(0, 2))
    return index


def filled_store() -> MemoryStore:
    store = MemoryStore()
    store.put([make_record(0), make_record(1)])
    return store


def loaded_rows(manager: SnapshotManager, store: MemoryStore) -> list[int]:
    index: VectorIndex = NumpyIndex(EMBEDDING_SIZE)
    manager.load(index, store)
    return index.rows().tolist()


@pytest.mark.parametrize("engine", sorted(INDEXES))
def test_every_engine_finds_its_snapshot_at_the_next_start(
    engine: str, tmp_path: Path
) -> None:
    store = filled_store()
    SnapshotManager(tmp_path, engine).save(filled_index(), store)
    assert loaded_rows(SnapshotManager(tmp_path, engine), store) == [1, 2]


@pytest.mark.parametrize("engine", sorted(INDEXES))
def test_no_engine_deletes_the_snapshot_of_another(engine: str, tmp_path: Path) -> None:
    store = filled_store()
    SnapshotManager(tmp_path, engine).save(filled_index(), store)
    before = sorted(tmp_path.iterdir())
    for other in set(INDEXES) - {engine}:
        assert loaded_rows(SnapshotManager(tmp_path, other), store) == []
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(("former", "current"), [("faiss", "auto"), ("exact", "numpy")])
def test_a_former_engine_name_opens_the_engine_and_its_old_snapshot(
    former: str, current: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert current_index_name(former) == current
    assert repr(current) in caplog.text
    store = filled_store()
    SnapshotManager(tmp_path, former).save(filled_index(), store)
    manager = SnapshotManager(tmp_path, current, former_names(current))
    assert loaded_rows(manager, store) == [1, 2]


def test_current_engine_names_stay_and_are_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for engine in INDEXES:
        assert current_index_name(engine) == engine
    assert caplog.text == ""
