"""The collections in a PostgreSQL database: a list of names, and a schema for each."""

from __future__ import annotations

from pathlib import Path

import psycopg
from psycopg import sql

from index.derived_folders import DerivedFolders
from index.errors import CollectionExists, CollectionMissing
from index.store.postgres.connections import Connections, connect, postgres_errors
from index.store.postgres.schema import MAIN, migrate

_FIND = "SELECT number FROM collections WHERE name = %s"


def schema_of(conninfo: str, collection: str | None) -> str:
    """The schema of a library; a new collection is entered in the list. Raises StoreError."""
    if collection is None:
        return MAIN
    with postgres_errors(), connect(conninfo) as connection:
        migrate(connection, MAIN)
        connection.execute(f"SET search_path TO {MAIN}")
        connection.execute(
            "INSERT INTO collections (name) VALUES (%s) ON CONFLICT DO NOTHING",
            (collection,),
        )
        (number,) = connection.execute(_FIND, (collection,)).fetchone() or ("",)
    return _schema(number)


def _schema(number: object) -> str:
    return f"{MAIN}_{number}"


class PostgresCollections:
    """See CollectionList."""

    def __init__(self, conninfo: str, data_folder: Path) -> None:
        """`data_folder` has what this process derives from the collections. Raises StoreError."""
        self._derived = DerivedFolders(data_folder)
        with postgres_errors(), connect(conninfo) as connection:
            migrate(connection, MAIN)
        self._connections = Connections(conninfo, MAIN)
        self._derived.keep_only(self.names())

    def names(self) -> list[str]:
        """See CollectionList."""
        with self._connections.transaction() as reader:
            rows = reader.execute("SELECT name FROM collections").fetchall()
        return sorted(name for (name,) in rows)

    def find(self, name: str) -> str | None:
        """See CollectionList."""
        with self._connections.transaction() as reader:
            row = reader.execute(_FIND, (name,)).fetchone()
        return None if row is None else str(row[0])

    def create(self, name: str) -> None:
        """See CollectionList."""
        with self._connections.transaction() as writer:
            try:
                writer.execute("INSERT INTO collections (name) VALUES (%s)", (name,))
            except psycopg.errors.UniqueViolation as error:
                raise CollectionExists(
                    f"there is a collection {name!r} already"
                ) from error

    def image_count(self, name: str) -> int:
        """See CollectionList."""
        number = self.find(name)
        if number is None:
            raise CollectionMissing(f"there is no collection {name!r}")
        query = sql.SQL("SELECT images FROM {}.store").format(_named(number))
        with self._connections.transaction() as reader:
            try:
                row = reader.execute(query).fetchone()
            except psycopg.errors.UndefinedTable:
                # Created, and not opened yet; or deleted since.
                row = None
        return 0 if row is None else int(row[0])

    def delete(self, name: str) -> None:
        """See CollectionList."""
        query = "DELETE FROM collections WHERE name = %s RETURNING number"
        with self._connections.transaction() as writer:
            row = writer.execute(query, (name,)).fetchone()
            if row is None:
                raise CollectionMissing(f"there is no collection {name!r}")
            drop = sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(_named(row[0]))
            writer.execute(drop)
        self._derived.remove(name)

    def close(self) -> None:
        """See CollectionList."""
        self._connections.close()


def _named(number: object) -> sql.Identifier:
    return sql.Identifier(_schema(number))
