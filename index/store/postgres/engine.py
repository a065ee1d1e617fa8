"""What the registry of engines needs of a store in PostgreSQL."""

from __future__ import annotations

from pathlib import Path

from index.ports import OpenStore
from index.store.postgres.collections import PostgresCollections, schema_of
from index.store.postgres.connections import connect, postgres_errors
from index.store.postgres.store import PostgresStore
from index.store.shared_files import exchange_files


def open_store(setting: str, folder: Path, collection: str | None) -> OpenStore:
    """Opens or creates the store of a library. Raises StoreError."""
    conninfo = _conninfo(setting)
    store = PostgresStore(conninfo, schema_of(conninfo, collection), folder)
    return OpenStore(
        store,
        exchange_files=lambda: exchange_files(store, folder),
        claim=store.claim,
        feed=store,
    )


def check(setting: str) -> None:
    """Raises StoreError if the database cannot be reached; changes nothing."""
    with postgres_errors():
        connect(_conninfo(setting)).close()


def collections(setting: str, folder: Path) -> PostgresCollections:
    """The collections in the database. Raises StoreError."""
    return PostgresCollections(_conninfo(setting), folder)


def _conninfo(setting: str) -> str:
    """What libpq takes: without a URL it reads its own variables, PGHOST and the like."""
    return setting if "://" in setting else ""
