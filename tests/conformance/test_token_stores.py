"""Every token store against the one suite."""

from __future__ import annotations

from pathlib import Path

from index.ports import TokenStore
from index.store.memory import MemoryStore
from index.store.sqlite import SqliteStore
from tests.conformance.change_feed_suite import ChangeFeedSuite, SharedStore
from tests.conformance.token_store_suite import TokenStoreSuite


class TestMemoryStore(TokenStoreSuite):
    def open(self, folder: Path) -> TokenStore:
        return MemoryStore()


class TestMemoryFeed(ChangeFeedSuite):
    def open(self, folder: Path) -> SharedStore:
        return MemoryStore()


class TestSqliteStore(TokenStoreSuite):
    def open(self, folder: Path) -> TokenStore:
        return SqliteStore(folder)
