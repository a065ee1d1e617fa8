"""Every token store against the one suite."""

from __future__ import annotations

from pathlib import Path

from index.memory_store import MemoryStore
from index.ports import TokenStore
from index.sqlite_store import SqliteStore
from tests.conformance.token_store_suite import TokenStoreSuite, test_samples_are_told_apart  # noqa: F401


class TestMemoryStore(TokenStoreSuite):
    def open(self, folder: Path) -> TokenStore:
        return MemoryStore()


class TestSqliteStore(TokenStoreSuite):
    def open(self, folder: Path) -> TokenStore:
        return SqliteStore(folder)
