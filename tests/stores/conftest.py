"""One PostgreSQL server for all tests of a run, and a new database for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.stores.postgres_server import PostgresServer, running_server


@pytest.fixture(scope="session")
def server() -> Iterator[PostgresServer]:
    with running_server() as server:
        yield server


@pytest.fixture
def database(server: PostgresServer) -> str:
    """The name of a new database."""
    return server.new_database()


@pytest.fixture
def url(server: PostgresServer, database: str) -> str:
    """Where a new database is."""
    return server.url(database)
