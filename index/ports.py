"""The two ports of the index: a token store (the truth) and a vector index (derived, always
rebuildable).

Knows nothing of models or HTTP. Shapes: K summary tokens, D hidden size, E embedding size, Q
queries, M stored vectors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from index.filters import Filter


@dataclass(frozen=True)
class Picture:
    """The small picture or the original kept beside the tokens."""

    media_type: str  # "image/webp" for thumbnails, the upload's own type for originals
    data: bytes


@dataclass(frozen=True)
class Record:
    """All that is stored of one image."""

    id: str  # made by us from the content hash
    sha256: str  # hex, of the uploaded bytes
    fingerprint: str  # of the model that made tokens and embedding
    codec: str  # name of the token codec
    token_count: int  # K, or fewer: the first of them
    token_dim: int  # D
    tokens: bytes  # as the codec wrote them
    embedding: NDArray[np.float32]  # (E,), length 1; kept in eight bits a value on disk
    width_px: int
    height_px: int
    created_at_ms: int  # Unix time
    metadata: Mapping[str, Any]  # JSON object of the user's
    picture: Picture | None = None  # read only on demand: `get_many` leaves it None unless asked


@dataclass(frozen=True)
class StoreSizes:
    """How much a store holds; parts in bytes, before the overhead of the file."""

    images: int
    token_bytes: int
    embedding_bytes: int
    record_bytes: int  # the rest of the records: header, names, metadata, checksum
    picture_bytes: int
    file_bytes: int  # all the store's files as they are now; 0 where there are none


class TokenStore(Protocol):
    """Durable records by id. Calls return after the data are safe; safe to call from several threads."""

    @property
    def store_id(self) -> str:
        """Random hex given at creation: snapshots of one store are never taken for another's."""
        ...

    def put(self, batch: Sequence[Record]) -> list[int]:
        """Stores all records or none, in one transaction; returns the row number given to each.

        A record whose id is there already takes its place under a new row. Rows are never reused,
        so that a vector index may name a record by its row. Raises StoreError, also when an id
        comes twice in one batch.
        """
        ...

    def get_many(
        self, ids: Sequence[str], *, with_picture: bool = False
    ) -> list[tuple[int, Record] | None]:
        """(row, record) for each id in order, None where there is none. Raises RecordDamaged on a
        bad checksum.
        """
        ...

    def get_rows(self, rows: Sequence[int]) -> list[Record | None]:
        """The record without picture of each row in order, None where there is none. Raises RecordDamaged."""
        ...

    def rows(self, fingerprint: str, where: Filter | None = None) -> NDArray[np.int64]:
        """All rows of one fingerprint, ascending, for which `where` holds: reads no records."""
        ...

    def update(self, changed: Sequence[tuple[int, Record]]) -> list[bool]:
        """Overwrites records under their rows in one transaction, keeping pictures; False where a
        row is gone.

        Id, fingerprint and embedding must be the old ones, since the vector index knows the row by
        them. Raises StoreError, also when they are not or an old record is damaged; then nothing is
        changed.
        """
        ...

    def last_row(self) -> int:
        """The highest row ever given, also if it was deleted since; 0 at first."""
        ...

    def sizes(self) -> StoreSizes:
        """Totals, kept up to date by every write: cheap."""
        ...

    def delete(self, ids: Sequence[str]) -> list[int | None]:
        """Deletes in one transaction; the row each id had, None where there was none."""
        ...

    def scan(self, *, after_row: int = 0, limit: int | None = None) -> Iterator[tuple[int, Record]]:
        """Records without pictures in row order, from the row after `after_row`.

        Raises RecordDamaged with its `row`: a new scan after that row goes on behind it.
        """
        ...

    def close(self) -> None:
        """Releases files; further calls raise StoreError."""
        ...


class VectorIndex(Protocol):
    """Nearest neighbours by inner product over rows. Safe to call from several threads."""

    def add(self, rows: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Adds M vectors (M, E) of length 1 under their rows (M,), all different; a row already
        there is replaced.
        """
        ...

    def __len__(self) -> int:
        """M, the vectors that a search can find."""
        ...

    def rows(self) -> NDArray[np.int64]:
        """All rows that a search can find, ascending."""
        ...

    def search(
        self, queries: NDArray[np.float32], k: int, allowed: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Scores (Q, k) best first and rows (Q, k); -inf and -1 where there are fewer than k.

        Only rows in `allowed`, if given.
        """
        ...

    def remove(self, rows: NDArray[np.int64]) -> int:
        """Removes rows; at once invisible to searches. Returns how many were there."""
        ...

    def save(self, path: Path) -> None:
        """Writes a snapshot atomically."""
        ...

    def load(self, path: Path) -> None:
        """Replaces the contents by a snapshot's. Raises IndexDamaged."""
        ...


# What goes into a library and what comes out of it.
#  Shapes: K summary tokens, D hidden size, E embedding size.


@dataclass(frozen=True)
class NewImage:
    """What ingest hands over."""

    sha256: str  # hex, of the uploaded bytes
    fingerprint: str
    tokens: NDArray[np.float32]  # (K, D) or the first of them, not yet encoded
    embedding: NDArray[np.float32]  # (E,)
    width_px: int
    height_px: int
    metadata: Mapping[str, Any]
    picture: Picture | None


@dataclass(frozen=True)
class PutResult:
    """What became of one new image; `created` is False when it was there already."""

    id: str
    created: bool
    record: Record


@dataclass(frozen=True)
class Hit:
    """One image found; `score` is the cosine, exact, from the embedding in the store."""

    id: str
    score: float
    record: Record


@dataclass(frozen=True)
class Page:
    """Records in the order they came in, and where the next page starts, if there is one."""

    records: list[Record]
    next_cursor: str | None


@dataclass(frozen=True)
class RecodeProgress:
    """How far `recode` has come, in images."""

    processed: int
    total: int
    recoded: int  # of those processed, the ones that were in another codec


@dataclass(frozen=True)
class Stats:
    """How much a library holds."""

    images: int
    token_bytes: int
    embedding_bytes: int
    record_bytes: int  # the rest of the records: header, names, metadata, checksum
    picture_bytes: int
    file_bytes: int
    index_vectors: int
