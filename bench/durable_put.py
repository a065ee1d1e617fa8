"""What it costs to put images for good: batches of 32 records in the token store, beside SQLite
writing the same.

All commit each batch to the disk (write-ahead log, synchronous=FULL) before the next. SQLite is
given the records, ready to be written, twice: into one table by their ids, and into the store's own
tables with all that it keeps to find records again (fingerprints, terms of the metadata, totals),
which are the very bytes of the store. The whole library's put is told beside: that also codes the
tokens and follows in the vector index. Physical limit: one flush of the disk's cache a batch.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from statistics import median

from bench.bytes import new_image, open_here
from bench.measure import Figure, in_turn, median_ratio, report, seconds
from index.filters import metadata_terms
from index.ports import NewImage, Record
from index.store.connections import PAGE_BYTES
from index.store.record_format import embedding_byte_count, encode_record
from index.store.schema import migrate
from index.store.sqlite import SqliteStore

BATCH = 32


def run(*, rounds: int = 40) -> None:
    """Puts `rounds` batches each way, in turn, and reports."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with closing(open_here(folder / "made")) as made:
            records = [
                [stored.record for stored in made.put(images)]
                for images in batches(rounds)
            ]
        with (
            closing(SqliteStore(folder / "store")) as store,
            closing(raw_file(folder / "raw.sqlite")) as raw,
            closing(raw_file(folder / "same.sqlite")) as same,
            closing(open_here(folder / "library")) as library,
        ):
            raw.execute("CREATE TABLE records (id TEXT PRIMARY KEY, record BLOB)")
            migrate(same)
            of_store, of_raw, of_library = (
                iter(records),
                iter(list(map(raw_rows, records))),
                batches(rounds),
            )
            of_same = iter(
                [
                    same_rows(batch, 1 + BATCH * number)
                    for number, batch in enumerate(records)
                ]
            )
            taken = in_turn(
                {
                    "store": lambda: seconds(partial(store.put, next(of_store))),
                    "raw": lambda: seconds(partial(put_raw, raw, next(of_raw))),
                    "same": lambda: seconds(partial(put_same, same, *next(of_same))),
                    "library": lambda: seconds(partial(library.put, next(of_library))),
                },
                rounds,
            )
    report(
        "durable_put",
        [
            Figure("raw_ms_a_batch", 1e3 * median(taken["raw"])),
            Figure(
                "store_to_one_table",
                median_ratio(taken["store"], taken["raw"]),
                at_most=1.3,
            ),
            Figure(
                "store_to_the_same_tables",
                median_ratio(taken["store"], taken["same"]),
                at_most=1.3,
            ),
            Figure(
                "library_with_codec_to_raw",
                median_ratio(taken["library"], taken["raw"]),
            ),
        ],
    )


def batches(count: int) -> Iterator[list[NewImage]]:
    """Batches of images that differ."""
    return (
        [new_image(b"", None, start * BATCH + n) for n in range(BATCH)]
        for start in range(count)
    )


def raw_file(path: Path) -> sqlite3.Connection:
    """A file with the store's settings."""
    connection = sqlite3.connect(path, isolation_level=None)
    for setting in (
        f"page_size = {PAGE_BYTES}",
        "journal_mode = WAL",
        "synchronous = FULL",
        "fullfsync = ON",
    ):
        connection.execute(f"PRAGMA {setting}")
    return connection


def raw_rows(batch: Sequence[Record]) -> list[tuple[str, bytes]]:
    """What a put writes, ready to be written."""
    return [(record.id, encode_record(record)) for record in batch]


def put_raw(connection: sqlite3.Connection, rows: Sequence[tuple[str, bytes]]) -> None:
    """One transaction."""
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany("INSERT INTO records VALUES (?, ?)", rows)
    connection.execute("COMMIT")


def same_rows(
    batch: Sequence[Record], first: int
) -> tuple[list[tuple[object, ...]], list[tuple[object, ...]]]:
    """The rows of a put in the tables `images` and `terms`, the first record as row `first`."""
    rows = [(row, *raw) for row, raw in enumerate(raw_rows(batch), first)]
    images = [
        (
            row,
            id_,
            1,
            len(record.tokens),
            embedding_byte_count(record.embedding.size),
            data,
        )
        for (row, id_, data), record in zip(rows, batch, strict=True)
    ]
    return images, [
        (*term, row)
        for row, record in enumerate(batch, first)
        for term in metadata_terms(record.metadata)
    ]


def put_same(
    connection: sqlite3.Connection,
    images: Sequence[tuple[object, ...]],
    terms: Sequence[tuple[object, ...]],
) -> None:
    """One transaction."""
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany("INSERT INTO images VALUES (?, ?, ?, ?, ?, ?)", images)
    connection.executemany("INSERT INTO terms VALUES (?, ?, ?)", terms)
    connection.execute("COMMIT")


if __name__ == "__main__":
    run()
