"""The vector index of a library, kept in step with the store that it is derived from.

Shapes: Q queries, E embedding size, M vectors.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from index.filters import Filter
from index.ports import (
    ChangeFeed,
    Floats,
    Hit,
    Ints,
    Position,
    Record,
    TokenStore,
    VectorIndex,
)
from index.store.tolerant_reader import TolerantReader
from index.vectors.arithmetic import unit
from index.vectors.best_first import best_first, cosines
from index.vectors.snapshot import SnapshotManager

_BLOCK_RECORDS = 256  # read at a time while catching up
_WIDENING = 4  # factor of neighbours, when some of them could not be read


class DerivedIndex:
    """Follows the commits of a store, and searches.

    A caller holds the library's write lock for every call but `search` and `len`.
    """

    def __init__(
        self,
        index: VectorIndex,
        store: TokenStore,
        *,
        fingerprint: str,
        embedding_size: int,
        snapshots: SnapshotManager | None,
        feed: ChangeFeed | None = None,
    ) -> None:
        """Loads a snapshot, if there is one, and catches up with the store.

        `feed` tells what other processes commit to it.
        """
        self._index = index
        self._store = store
        self._reader = TolerantReader(store)
        self._fingerprint = fingerprint
        self._embedding_size = embedding_size
        self._snapshots = snapshots
        self._feed = feed
        self._position = Position(row=0, removal=0)  # the index holds all up to here
        self._own_rows: set[int] = set()  # added by `update` beyond that position
        if snapshots is not None:
            snapshots.load(index, store)
        # A snapshot is of an earlier moment than the store, so it always has to catch up.
        self._is_behind = True
        self.catch_up()

    def __len__(self) -> int:
        return len(self._index)

    @property
    def is_behind(self) -> bool:
        """Whether the index may differ from the store.

        An update failed after its commit, or there were commits since, perhaps of other processes.
        Raises StoreError.
        """
        # Asked before every search: what another process has acknowledged is found from then on.
        return self._is_behind or (
            self._feed is not None and self._feed.position() != self._position
        )

    def update(
        self,
        removed_rows: Sequence[int],
        rows: Sequence[int] = (),
        records: Sequence[Record] = (),
    ) -> None:
        """Applies a commit: removes rows, then adds records under their new rows."""
        with self._behind_on_failure():
            self._index.remove(_row_array(removed_rows))
            if records:
                embeddings = np.stack([record.embedding for record in records])
                # int8 rounding moves the length off 1 a little.
                self._index.add(_row_array(rows), unit(embeddings))
        if self._feed is not None:
            self._own_rows.update(rows)
        self._note_changes(len(removed_rows) + len(rows))

    @contextlib.contextmanager
    def _behind_on_failure(self) -> Iterator[None]:
        # The commit is on the disk and cannot be taken back. Should the index fail to follow (for
        # want of memory, say), it is marked, and the next call compares it with the store.
        try:
            yield
        except BaseException:
            self._is_behind = True
            raise

    def catch_up(self) -> None:
        """Makes the index hold exactly the store's images of this model, if it is behind.

        Raises StoreError.
        """
        if self._feed is not None and not self._is_behind:
            self._follow(self._feed)
        if self._is_behind:
            self._compare()

    def _follow(self, feed: ChangeFeed) -> None:
        """Applies the commits since the last position."""
        changes = feed.changes(self._fingerprint, self._position)
        if changes.removed is None:
            if changes.position.row < self._position.row:
                # An earlier copy of the store: its next rows are not those known by their numbers.
                self._index.remove(self._index.rows())
            self._is_behind = True
            return
        added = np.setdiff1d(changes.added, _row_array(list(self._own_rows)))
        with self._behind_on_failure():
            self._index.remove(changes.removed)
            for start in range(0, len(added), _BLOCK_RECORDS):
                self._add_rows(added[start : start + _BLOCK_RECORDS])
        self._reach(changes.position)
        self._note_changes(len(changes.removed) + len(added))

    def _reach(self, position: Position) -> None:
        self._position = position
        self._own_rows = {row for row in self._own_rows if row > position.row}

    def _compare(self) -> None:
        """Compares all rows of the index with those of the store."""
        if self._feed is not None:
            # Before the rows are read: what is committed meanwhile is applied twice, not missed.
            self._reach(self._feed.position())
        expected = self._store.rows(self._fingerprint)
        present = self._index.rows()
        # Rows alone tell the difference: a row is never assigned twice, and an update may not
        # change the embedding under it.
        surplus = np.setdiff1d(present, expected)
        missing = np.setdiff1d(expected, present)
        self._index.remove(surplus)
        for start in range(0, len(missing), _BLOCK_RECORDS):
            self._add_rows(missing[start : start + _BLOCK_RECORDS])
        self._is_behind = False
        self._note_changes(len(surplus) + len(missing))

    def _add_rows(self, rows: Ints) -> None:
        records = self._reader.by_row(rows)
        usable = {
            row: record.embedding
            for row, record in records.items()
            if record.embedding.shape == (self._embedding_size,)
        }
        if usable:
            vectors = unit(np.stack(list(usable.values())))
            self._index.add(_row_array(list(usable)), vectors)

    def search(self, queries: Floats, k: int, where: Filter | None) -> list[list[Hit]]:
        """At most k hits for each unit query (Q, E), best first, that match `where`."""
        allowed = None
        if where is not None:
            allowed = self._store.rows(self._fingerprint, where)
        neighbours = k
        while True:
            total = len(self._index) if allowed is None else len(allowed)
            wanted = max(min(neighbours, total), 1)
            _, rows = self._index.search(queries, wanted, allowed)
            found = rows[rows >= 0]
            records = self._reader.by_row(np.unique(found))
            hits = []
            for query, query_rows in zip(queries, rows, strict=True):
                hits.append(_rank(query, query_rows, records, k))
            is_complete = all(len(query_hits) == k for query_hits in hits)
            if is_complete or neighbours >= total:
                return hits
            # The race between index and store: a search takes no lock that spans both, so images
            # may be deleted between the two reads, and records may be damaged. Their places are
            # filled with the next neighbours.
            neighbours *= _WIDENING

    def save(self) -> None:
        """Writes a snapshot if one is due."""
        if self._snapshots is not None:
            self._snapshots.save(self._index, self._store)

    def file_bytes(self) -> int:
        """Bytes of all snapshots."""
        return 0 if self._snapshots is None else self._snapshots.size_bytes()

    def _note_changes(self, count: int) -> None:
        if self._snapshots is not None:
            self._snapshots.note_changes(count, self._index, self._store)


def _row_array(rows: Sequence[int]) -> Ints:
    return np.array(rows, dtype=np.int64)


def _rank(
    query: Floats,
    rows: Ints,
    records: Mapping[int, Record],
    k: int,
) -> list[Hit]:
    """The best k of the rows that have a record, by exact cosine with a query (E,)."""
    live = [row for row in rows.tolist() if row in records]
    if not live:
        return []
    stored = np.stack([records[row].embedding for row in live])
    scores = cosines(unit(stored), query)
    hits = []
    for place in best_first(scores, _row_array(live), k).tolist():
        record = records[live[place]]
        hits.append(Hit(record.id, float(scores[place]), record))
    return hits
