"""Schemas and tables in a PostgreSQL database, as numbered migrations.

The schema `precis` holds the library without a name and the list of collections; each collection
has a schema of its own with the same tables. A migration that was released is never edited.
"""

from __future__ import annotations

import secrets

from psycopg import Connection, sql
from psycopg.rows import TupleRow

from index.errors import StoreDamaged, StoreTooNew

MAIN = "precis"
# One of ours at a time creates or changes schemas: the hash of a text that nobody else takes.
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('precis schema', 0))"

LIBRARY_STEPS: tuple[str, ...] = (
    """
    -- One row: the identity of this library, the last row assigned, the last number of a removal,
    -- and totals. Whoever writes locks it first: so rows are assigned in the order of the commits.
    CREATE TABLE store (
        version integer NOT NULL,
        store_id text NOT NULL,
        last_row bigint NOT NULL DEFAULT 0,
        last_removal bigint NOT NULL DEFAULT 0,
        images bigint NOT NULL DEFAULT 0,
        token_bytes bigint NOT NULL DEFAULT 0,
        embedding_bytes bigint NOT NULL DEFAULT 0,
        record_bytes bigint NOT NULL DEFAULT 0,
        picture_bytes bigint NOT NULL DEFAULT 0
    );
    CREATE TABLE fingerprints (
        number integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        fingerprint text NOT NULL UNIQUE
    );
    -- Ids and texts are bytes of UTF-8: `text` cannot hold the character 0, and its order depends
    -- on the database's collation.
    CREATE TABLE images (
        row bigint PRIMARY KEY,
        id bytea NOT NULL UNIQUE,
        fingerprint integer NOT NULL REFERENCES fingerprints,
        token_bytes integer NOT NULL,
        embedding_bytes integer NOT NULL,
        record bytea NOT NULL
    );
    CREATE INDEX images_by_fingerprint ON images (fingerprint, row);
    -- Of no use on quantised tokens and compressed pictures.
    ALTER TABLE images ALTER COLUMN record SET STORAGE EXTERNAL;
    CREATE TABLE pictures (
        row bigint PRIMARY KEY REFERENCES images ON DELETE CASCADE,
        picture bytea NOT NULL
    );
    ALTER TABLE pictures ALTER COLUMN picture SET STORAGE EXTERNAL;
    -- The metadata index, derived from the records: of text and number one is NULL. Integers of 64
    -- bits and floats compare exactly as numeric.
    CREATE TABLE terms (
        name bytea NOT NULL,
        text bytea,
        number numeric,
        row bigint NOT NULL REFERENCES images ON DELETE CASCADE
    );
    -- An entry of an index has at most 2,704 bytes, and a name may have any length.
    CREATE INDEX terms_by_value ON terms (substring(name, 1, 1000), text, number, row);
    CREATE INDEX terms_by_row ON terms (row);
    -- The rows that left the library, in the order of the commits.
    CREATE TABLE removals (
        number bigint PRIMARY KEY,
        row bigint NOT NULL
    );
    -- Trained state of codecs and descriptions of models, which every process copies to its folder.
    CREATE TABLE files (
        name text PRIMARY KEY,
        data bytea NOT NULL
    );
    """,
)
COLLECTIONS = """
    CREATE TABLE IF NOT EXISTS collections (
        number integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        name text NOT NULL UNIQUE
    )
"""
_TABLES = (
    "store",
    "fingerprints",
    "images",
    "pictures",
    "terms",
    "removals",
    "files",
)


def migrate(connection: Connection[TupleRow], schema: str) -> None:
    """Creates the tables of a library in `schema`, or brings them to the newest version.

    All or nothing; needs a connection in autocommit. Raises StoreTooNew, StoreDamaged,
    psycopg.Error.
    """
    with connection.transaction():
        connection.execute(_LOCK)
        tables = _tables(connection, schema)
        if not tables & set(_TABLES):
            _create_schema(connection, schema)
            version = 0
        else:
            _check_whole(schema, tables)
            version = _version(connection, schema)
        for number, step in enumerate(LIBRARY_STEPS[version:], start=version + 1):
            connection.execute(step)
            _set_version(connection, number)
        if schema == MAIN:
            connection.execute(COLLECTIONS)


def _tables(connection: Connection[TupleRow], schema: str) -> set[str]:
    query = "SELECT tablename FROM pg_tables WHERE schemaname = %s"
    return {name for (name,) in connection.execute(query, (schema,))}


def _create_schema(connection: Connection[TupleRow], schema: str) -> None:
    query = "SELECT 1 FROM pg_namespace WHERE nspname = %s"
    # Not IF NOT EXISTS: that asks for the right to create schemas even where there is one.
    if connection.execute(query, (schema,)).fetchone() is None:
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
    _use(connection, schema)


def _check_whole(schema: str, tables: set[str]) -> None:
    missing = sorted(set(_TABLES) - tables)
    if missing:
        raise StoreDamaged(
            f"the schema {schema!r} of the database lacks tables: {', '.join(missing)};"
            " restore a backup, or remove the schema if its images are not needed"
        )


def _version(connection: Connection[TupleRow], schema: str) -> int:
    _use(connection, schema)
    row = connection.execute("SELECT version FROM store").fetchone()
    if row is None:
        raise StoreDamaged(
            f"the table 'store' of schema {schema!r} is empty; restore a backup"
        )
    version = int(row[0])
    if version > len(LIBRARY_STEPS):
        raise StoreTooNew(
            f"the store has format {version}; this version reads up to {len(LIBRARY_STEPS)}"
        )
    return version


def _use(connection: Connection[TupleRow], schema: str) -> None:
    path = sql.SQL("SET LOCAL search_path TO {}").format(sql.Identifier(schema))
    connection.execute(path)


def _set_version(connection: Connection[TupleRow], number: int) -> None:
    if number == 1:
        connection.execute(
            "INSERT INTO store (version, store_id) VALUES (1, %s)",
            (secrets.token_hex(8),),
        )
    connection.execute("UPDATE store SET version = %s", (number,))
