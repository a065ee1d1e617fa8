"""What the change feed of every shared store promises.

The test class of an adapter derives from ChangeFeedSuite and says how its store is opened.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from index.ports import ChangeFeed, Changes, Position, TokenStore
from tests.index.samples import (
    FINGERPRINT,
    OTHER_FINGERPRINT,
    make_ids,
    make_record,
    make_records,
)
from tests.threads import run_threads


class SharedStore(TokenStore, ChangeFeed, Protocol):
    """A store with a feed."""


def removed_rows(changes: Changes) -> list[int]:
    assert changes.removed is not None
    return sorted(changes.removed.tolist())


class ChangeFeedSuite:
    def open(self, folder: Path) -> SharedStore:
        raise NotImplementedError

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[SharedStore]:
        store = self.open(tmp_path)
        yield store
        store.close()

    def test_tells_what_was_added_and_removed_since(self, store: SharedStore) -> None:
        assert store.position() == Position(row=0, removal=0)
        first = store.put(make_records(range(3)))
        start = store.position()
        second = store.put([make_record(3), make_record(0)])
        store.delete(make_ids([1, 7]))
        changes = store.changes(FINGERPRINT, start)
        assert changes.added.tolist() == second
        assert removed_rows(changes) == first[:2]
        assert changes.position == store.position()
        nothing = store.changes(FINGERPRINT, changes.position)
        assert nothing.added.tolist() == removed_rows(nothing) == []

    def test_tells_the_additions_of_one_model(self, store: SharedStore) -> None:
        start = store.position()
        other = make_record(1, fingerprint=OTHER_FINGERPRINT)
        rows = store.put([make_record(0), other, make_record(2)])
        added = store.changes(FINGERPRINT, start).added
        assert added.tolist() == [rows[0], rows[2]]
        assert store.changes(OTHER_FINGERPRINT, start).added.tolist() == [rows[1]]

    def test_an_update_is_no_change_for_an_index(self, store: SharedStore) -> None:
        (row,) = store.put([make_record(0)])
        before = store.position()
        store.update([(row, make_record(0, metadata={}))])
        assert store.position() == before

    def test_a_follower_misses_nothing_of_writers_side_by_side(
        self, store: SharedStore
    ) -> None:
        present: set[int] = set()
        position = store.position()

        def follow() -> None:
            nonlocal position
            changes = store.changes(FINGERPRINT, position)
            position = changes.position
            present.update(changes.added.tolist())
            present.difference_update(removed_rows(changes))

        def work(thread: int) -> None:
            if thread == 0:
                for _ in range(20):
                    follow()
                return
            for number in range(thread * 100, thread * 100 + 10):
                store.put(make_records([number, number + 50]))
                store.delete(make_ids([number]))

        run_threads(5, work)
        follow()
        assert present == set(store.rows(FINGERPRINT).tolist())
