"""Schema of the SQLite file, as numbered migrations.

A migration that was released is never edited; a change of the tables is a new one.
"""

from __future__ import annotations

import secrets
import sqlite3

from index.errors import StoreTooNew

STEPS: tuple[str, ...] = (
    """
    -- One row: the identity of this store, and totals that the triggers below maintain. Triggers,
    -- because no writer can forget them.
    CREATE TABLE store (
        store_id TEXT NOT NULL,
        images INTEGER NOT NULL DEFAULT 0,
        token_bytes INTEGER NOT NULL DEFAULT 0,
        embedding_bytes INTEGER NOT NULL DEFAULT 0,
        record_bytes INTEGER NOT NULL DEFAULT 0,
        picture_bytes INTEGER NOT NULL DEFAULT 0
    );
    -- A short number in place of 64 hex digits in every row and index entry.
    CREATE TABLE fingerprints (
        number INTEGER PRIMARY KEY,
        fingerprint TEXT NOT NULL UNIQUE
    );
    -- AUTOINCREMENT: a row is never assigned twice, so that an entry of the vector index can never
    -- come to mean another image.
    CREATE TABLE images (
        row INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        fingerprint INTEGER NOT NULL,
        token_bytes INTEGER NOT NULL,
        embedding_bytes INTEGER NOT NULL,
        record BLOB NOT NULL
    );
    CREATE INDEX images_by_fingerprint ON images (fingerprint);
    CREATE TABLE pictures (
        row INTEGER PRIMARY KEY,
        picture BLOB NOT NULL
    );
    -- The metadata index, derived from the records. No type on `value`: with one, SQLite would
    -- convert numbers to texts or texts to numbers. WITHOUT ROWID: the key is the whole row.
    CREATE TABLE terms (
        name TEXT NOT NULL,
        value NOT NULL,
        row INTEGER NOT NULL,
        PRIMARY KEY (name, value, row)
    ) WITHOUT ROWID;
    CREATE TRIGGER image_added AFTER INSERT ON images BEGIN
        UPDATE store SET
            images = images + 1,
            token_bytes = token_bytes + new.token_bytes,
            embedding_bytes = embedding_bytes + new.embedding_bytes,
            record_bytes = record_bytes
                + length(new.record) - new.token_bytes - new.embedding_bytes;
    END;
    CREATE TRIGGER image_deleted AFTER DELETE ON images BEGIN
        UPDATE store SET
            images = images - 1,
            token_bytes = token_bytes - old.token_bytes,
            embedding_bytes = embedding_bytes - old.embedding_bytes,
            record_bytes = record_bytes
                - length(old.record) + old.token_bytes + old.embedding_bytes;
    END;
    CREATE TRIGGER picture_added AFTER INSERT ON pictures BEGIN
        UPDATE store SET picture_bytes = picture_bytes + length(new.picture);
    END;
    CREATE TRIGGER picture_deleted AFTER DELETE ON pictures BEGIN
        UPDATE store SET picture_bytes = picture_bytes - length(old.picture);
    END;
    """,
    """
    CREATE TRIGGER image_changed AFTER UPDATE ON images BEGIN
        UPDATE store SET
            token_bytes = token_bytes + new.token_bytes - old.token_bytes,
            embedding_bytes = embedding_bytes + new.embedding_bytes - old.embedding_bytes,
            record_bytes = record_bytes
                + length(new.record) - new.token_bytes - new.embedding_bytes
                - length(old.record) + old.token_bytes + old.embedding_bytes;
    END;
    """,
)


def migrate(connection: sqlite3.Connection) -> None:
    """Brings the file to the newest schema. Raises StoreTooNew, sqlite3.Error."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(STEPS):
        # Before anything is written: the later version must find its file as it left it.
        raise StoreTooNew(
            f"the store has format {version}; this version reads up to {len(STEPS)}"
        )
    for number, step in enumerate(STEPS[version:], start=version + 1):
        _apply(connection, number, step)


def _apply(connection: sqlite3.Connection, number: int, step: str) -> None:
    # The version changes in the transaction of its step: an interrupted migration resumes at the
    # step that it did not finish.
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statement in _statements(step):
            connection.execute(statement)
        if number == 1:
            values = (secrets.token_hex(8),)
            connection.execute("INSERT INTO store (store_id) VALUES (?)", values)
        connection.execute(f"PRAGMA user_version = {number}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _statements(script: str) -> list[str]:
    """The single statements of a script."""
    # `executescript` would commit before the first and break the transaction. Splitting at
    # semicolons would cut triggers in pieces; SQLite itself knows where a statement ends.
    statements: list[str] = []
    current = ""
    for line in script.splitlines(keepends=True):
        current += line
        if sqlite3.complete_statement(current):
            statements.append(current)
            current = ""
    return statements
