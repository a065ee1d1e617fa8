"""The index's two ports, TokenStore and VectorIndex, and the values that a library exchanges.

The store is the source of truth; a vector index is derived and can always be rebuilt. Shapes: K
summary tokens, D hidden size, E embedding size, Q queries, M stored vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from index.errors import LibraryError, StoreClosed
from index.filters import Filter

Floats = NDArray[np.float32]  # vectors, scores, tokens; each use names its shape
ClosedError = Callable[[], LibraryError]  # makes the error of what has been closed
Ints = NDArray[np.int64]  # rows of a store, positions in an index
TextAndRow = tuple[str, int]  # a text in the metadata of the record in a row


@dataclass(frozen=True)
class Picture:
    """An image file kept beside the tokens: a thumbnail or the original."""

    media_type: str  # "image/webp" for thumbnails, the upload's own type for originals
    data: bytes


@dataclass(frozen=True)
class Record:
    """One stored image."""

    id: str  # derived from the content hash
    sha256: str  # hex, of the uploaded bytes
    fingerprint: str  # of the model that made tokens and embedding
    codec: str  # name of the token codec
    token_count: int  # K, or fewer: the first ones
    token_dim: int  # D
    tokens: bytes  # encoded by `codec`
    embedding: Floats  # (E,), length 1; int8 on disk
    width_px: int
    height_px: int
    created_at_ms: int  # Unix time
    metadata: Mapping[str, Any]  # the user's JSON object
    picture: Picture | None = (
        None  # read on demand: `get_many` leaves it None by default
    )


@dataclass(frozen=True)
class StoreSizes:
    """Totals of a store. Byte counts are of the content, without the file's own overhead."""

    images: int
    token_bytes: int
    embedding_bytes: int
    record_bytes: int  # the rest of the records: header, names, metadata, checksum
    picture_bytes: int
    file_bytes: int  # size of the store's files now; 0 for a store without files


class TokenStore(Protocol):
    """Durable records by id. A call returns once its data are on the disk. Thread-safe."""

    @property
    def store_id(self) -> str:
        """Random hex chosen at creation; ties snapshots of a vector index to their store."""
        ...

    def put(self, batch: Sequence[Record]) -> list[int]:
        """Stores all records or none, in one transaction; returns the row number of each.

        A record replaces the one of the same id, under a new row. Rows are never reused, so that a
        vector index can refer to a record by its row. Raises StoreError, also when an id occurs
        twice in the batch.
        """
        ...

    def get_many(
        self, ids: Sequence[str], *, with_picture: bool = False
    ) -> list[tuple[int, Record] | None]:
        """(row, record) of each id, in order; None for an unknown id. Raises RecordDamaged."""
        ...

    def get_rows(self, rows: Sequence[int]) -> list[Record | None]:
        """The record, without picture, of each row; None for an unknown row.

        Raises RecordDamaged.
        """
        ...

    def rows(
        self,
        fingerprint: str | None,
        where: Filter | None = None,
        *,
        id_prefix: str = "",
    ) -> Ints:
        """The rows of one fingerprint, or of all for None, that match `where`, ascending.

        Only those whose ids begin with `id_prefix`. Reads no records.
        """
        ...

    def rows_by_text(
        self,
        fingerprint: str,
        name: str,
        where: Filter | None = None,
        *,
        id_prefix: str = "",
        before: TextAndRow | None = None,
        limit: int,
    ) -> list[TextAndRow]:
        """The records of one fingerprint that have a text under a name of the metadata index.

        The greatest (text, row) come first, by code point, and only those less than `before`. Of
        several texts a record has under the name, the greatest counts. `where` and `id_prefix`
        restrict the records as those of `rows`.
        """
        ...

    def update(self, changed: Sequence[tuple[int, Record]]) -> list[bool]:
        """Overwrites records under their rows in one transaction; False for a row that is gone.

        Pictures stay. Id, content hash, fingerprint and embedding must not change: the vector index
        holds the embedding under this row. Raises StoreError if they do or if the old record is
        damaged; nothing is changed then.
        """
        ...

    def last_row(self) -> int:
        """The highest row ever assigned, even if it was deleted since; 0 for a new store."""
        ...

    def sizes(self) -> StoreSizes:
        """Totals. Cheap: every write keeps them up to date."""
        ...

    def delete(self, ids: Sequence[str]) -> list[int | None]:
        """Deletes in one transaction; returns the row of each id, None for an unknown id."""
        ...

    def scan(
        self, *, after_row: int = 0, limit: int | None = None
    ) -> Iterator[tuple[int, Record]]:
        """Records without pictures in row order, starting after `after_row`.

        Raises RecordDamaged with its `row`; a new scan after that row resumes behind the damage.
        """
        ...

    def scan_back(
        self, *, before_row: int | None = None
    ) -> Iterator[tuple[int, Record]]:
        """As `scan`, from the last row backwards, or from the one before `before_row`."""
        ...

    def close(self, error: ClosedError = StoreClosed) -> None:
        """Releases files; further calls raise what `error` makes."""
        ...


@dataclass(frozen=True)
class Position:
    """A moment in the history of a store: all commits up to it, and none after it."""

    row: int  # the last row assigned
    removal: int  # how many rows had left the store


@dataclass(frozen=True)
class Changes:
    """What was committed to a store between two positions."""

    position: Position  # the later one
    added: (
        Ints  # rows of one fingerprint, ascending; those removed since may be missing
    )
    # Rows that left; None if the store no longer knows them all, or is an earlier copy of itself.
    removed: Ints | None


class ChangeFeed(Protocol):
    """The history of a store that several processes write to. Thread-safe."""

    def position(self) -> Position:
        """The present position. Cheap. Raises StoreError."""
        ...

    def changes(self, fingerprint: str, after: Position) -> Changes:
        """What was committed since a position. Raises StoreError."""
        ...


def _nothing() -> None:
    """What a store does that keeps its files in the folder of its library."""


def _any_model(fingerprint: str) -> None:
    """What a store does that one process has for itself."""


@dataclass(frozen=True)
class OpenStore:
    """A token store that has been opened."""

    store: TokenStore
    # Brings trained codecs and descriptions of models to the folder of the library, and those in
    # the folder to a store elsewhere. Raises StoreError.
    exchange_files: Callable[[], None] = _nothing
    # Raises WrongFingerprint if another process has the store open for another model.
    claim: Callable[[str], None] = _any_model
    feed: ChangeFeed | None = None  # of a store that other processes may write to


class CollectionList(Protocol):
    """The names of the collections beside a library, where its store is. Thread-safe."""

    def names(self) -> list[str]:
        """All names, sorted. Raises StoreError."""
        ...

    def find(self, name: str) -> str | None:
        """What tells a collection from a later one of the same name; None if there is none."""
        ...

    def create(self, name: str) -> None:
        """Takes the name for a store to be opened. Raises CollectionExists, StoreError."""
        ...

    def image_count(self, name: str) -> int:
        """How many images a collection holds. Raises CollectionMissing, StoreError."""
        ...

    def delete(self, name: str) -> None:
        """Deletes a collection and its store. Raises CollectionMissing, StoreError."""
        ...

    def close(self) -> None:
        """Releases what it holds."""
        ...


class VectorIndex(Protocol):
    """Nearest neighbours by inner product; vectors are known by their row. Thread-safe."""

    def add(self, rows: Ints, vectors: Floats) -> None:
        """Adds unit vectors (M, E) under distinct rows (M,); replaces a row that is present."""
        ...

    def __len__(self) -> int:
        """M, the number of vectors that a search can return."""
        ...

    def rows(self) -> Ints:
        """All rows that a search can return, ascending."""
        ...

    def search(
        self, queries: Floats, k: int, allowed: Ints | None = None
    ) -> tuple[Floats, Ints]:
        """Scores (Q, k), best first, and rows (Q, k); padded with -inf and -1 below k results.

        Scores have six decimals, and equal ones come in row order, whatever k is. `allowed`
        restricts the results to these rows.
        """
        ...

    def remove(self, rows: Ints) -> int:
        """Removes rows, which no later search returns. Returns how many were present."""
        ...

    def save(self, path: Path) -> None:
        """Writes a snapshot atomically."""
        ...

    def load(self, path: Path) -> None:
        """Replaces the contents by those of a snapshot. Raises IndexDamaged."""
        ...


@dataclass(frozen=True)
class NewImage:
    """An image to store."""

    sha256: str  # hex, of the uploaded bytes
    fingerprint: str
    tokens: Floats  # (K, D) or the first ones, not yet encoded
    embedding: Floats  # (E,)
    width_px: int
    height_px: int
    metadata: Mapping[str, Any]
    picture: Picture | None


@dataclass(frozen=True)
class PutResult:
    """The outcome for one image; `created` is False if the library had it already."""

    id: str
    created: bool
    record: Record


@dataclass(frozen=True)
class Hit:
    """A search result; `score` is the exact cosine with the stored embedding."""

    id: str
    score: float
    record: Record


@dataclass(frozen=True)
class Page:
    """Records, oldest or newest first, and the cursor of the next page; None on the last."""

    records: list[Record]
    next_cursor: str | None


@dataclass(frozen=True)
class RecodeProgress:
    """Progress of `recode`, in images."""

    processed: int
    total: int
    recoded: int  # of those processed, how many were in another codec


@dataclass(frozen=True)
class Stats:
    """Totals of a library."""

    images: int
    token_bytes: int
    embedding_bytes: int
    record_bytes: int  # the rest of the records: header, names, metadata, checksum
    picture_bytes: int
    file_bytes: int
    index_vectors: int
