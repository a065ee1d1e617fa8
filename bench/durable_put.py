"""What it costs to put images for good: batches of 32 records in the token store, beside SQLite writing the same bytes.

Both commit each batch to the disk (write-ahead log, synchronous=FULL) before the next. The store also keeps what finds
records again: ids, fingerprints, terms of the metadata, totals. The whole library's put is told beside it: that also
codes the tokens and follows in the vector index. Physical limit: one flush of the disk's cache a batch.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

from bench.bytes import DEFAULT, FINGERPRINT, STATE, new_image
from bench.default_model import EMBEDDING_SIZE, TOKENS_SHAPE
from bench.measure import Figure, in_turn, median_ratio, report, seconds
from index.library import Library, NewImage, open_library
from index.ports import Record
from index.record_bytes import encode_record
from index.sqlite_store import PAGE_BYTES, SqliteStore

BATCH = 32


def run(*, rounds: int = 40) -> None:
    """Puts `rounds` batches each way, in turn, and reports."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = open_here(folder / "made")
        records = [made.put(images)[n].record for images in batches(rounds) for n in range(BATCH)]
        made.close()
        in_batches = [records[start : start + BATCH] for start in range(0, len(records), BATCH)]
        store, raw, library = (
            SqliteStore(folder / "store"),
            raw_file(folder / "raw.sqlite"),
            open_here(folder / "library"),
        )
        sides = {
            "store": (store.put, iter(in_batches)),
            "raw": (lambda batch: put_raw(raw, batch), iter([raw_rows(batch) for batch in in_batches])),
            "library": (library.put, batches(rounds)),
        }
        taken = in_turn(
            {
                side: lambda put=put, given=given: timed(put, next(given))  # type: ignore[misc]
                for side, (put, given) in sides.items()
            },
            rounds,
        )
        for opened in (store, raw, library):
            opened.close()
    report(
        "durable_put",
        [
            Figure("raw_ms_a_batch", 1e3 * median(taken["raw"])),
            Figure("store_to_raw", median_ratio(taken["store"], taken["raw"]), at_most=1.3),
            Figure("library_with_codec_to_raw", median_ratio(taken["library"], taken["raw"])),
        ],
    )


def timed(put: object, batch: object) -> float:
    """Seconds of one call."""
    assert callable(put)
    return seconds(lambda: put(batch))


def open_here(folder: Path) -> Library:
    """A library of the default model's shapes, with its codec."""
    return open_library(
        folder,
        fingerprint=FINGERPRINT,
        token_shape=TOKENS_SHAPE,
        embedding_size=EMBEDDING_SIZE,
        codec=DEFAULT,
        codec_state=STATE,
    )


def batches(count: int) -> Iterator[list[NewImage]]:
    """Batches of images that differ."""
    return ([new_image(b"", None, start * BATCH + n) for n in range(BATCH)] for start in range(count))


def raw_file(path: Path) -> sqlite3.Connection:
    """A table of blobs with the store's settings."""
    connection = sqlite3.connect(path, isolation_level=None)
    for setting in (f"page_size = {PAGE_BYTES}", "journal_mode = WAL", "synchronous = FULL", "fullfsync = ON"):
        connection.execute(f"PRAGMA {setting}")
    connection.execute("CREATE TABLE records (id TEXT PRIMARY KEY, record BLOB)")
    return connection


def raw_rows(batch: Sequence[Record]) -> list[tuple[str, bytes]]:
    """What a put writes, ready to be written."""
    return [(record.id, encode_record(record)) for record in batch]


def put_raw(connection: sqlite3.Connection, rows: Sequence[tuple[str, bytes]]) -> None:
    """One transaction."""
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany("INSERT INTO records VALUES (?, ?)", rows)
    connection.execute("COMMIT")


if __name__ == "__main__":
    run()
