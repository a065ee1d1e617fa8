"""The store in PostgreSQL against the suite of every token store, over a real server."""

from __future__ import annotations

import zlib
from pathlib import Path

import pytest

from index.ports import TokenStore
from tests.conformance.token_store_suite import TokenStoreSuite

pytestmark = pytest.mark.stores


class TestPostgresStore(TokenStoreSuite):
    @pytest.fixture(autouse=True)
    def _database(self, url: str) -> None:
        self._url = url

    def open(self, folder: Path) -> TokenStore:
        from index.store.postgres.store import PostgresStore

        schema = f"s{zlib.crc32(str(folder).encode())}"
        return PostgresStore(self._url, schema, folder)
