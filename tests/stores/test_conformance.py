"""The store in PostgreSQL against the suites of every store, over a real server."""

from __future__ import annotations

import zlib
from pathlib import Path

import pytest

from index.ports import Position
from index.store.postgres.store import PostgresStore
from tests.conformance.change_feed_suite import ChangeFeedSuite, SharedStore
from tests.conformance.token_store_suite import TokenStoreSuite
from tests.index.samples import FINGERPRINT, make_ids, make_record, make_records

pytestmark = pytest.mark.stores


class InPostgres:
    @pytest.fixture(autouse=True)
    def _database(self, url: str) -> None:
        self._url = url

    def open(self, folder: Path) -> SharedStore:
        schema = f"s{zlib.crc32(str(folder).encode())}"
        return PostgresStore(self._url, schema, folder)


class TestPostgresStore(InPostgres, TokenStoreSuite):
    pass


class TestPostgresFeed(InPostgres, ChangeFeedSuite):
    def test_tells_when_it_no_longer_knows(
        self, store: SharedStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("index.store.postgres.store._KEPT_REMOVALS", 2)
        store.put(make_records(range(4)))
        start = store.position()
        store.delete(make_ids([0, 1]))
        assert store.changes(FINGERPRINT, start).removed is not None
        store.delete(make_ids([2]))
        assert store.changes(FINGERPRINT, start).removed is None

    def test_tells_that_it_is_an_earlier_copy_of_itself(
        self, store: SharedStore
    ) -> None:
        store.put([make_record(0)])
        later = Position(row=7, removal=0)
        assert store.changes(FINGERPRINT, later).removed is None
