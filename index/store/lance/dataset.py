"""One Lance dataset: its lines, snapshots to read, and commits that all others see or none.

It knows nothing of records. A commit writes lines and replaces the head: if another commit came
between, Lance finds that both replaced the same line, and the later one begins anew.
"""

from __future__ import annotations

import logging
import os
import random
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import lance
import pyarrow
from lance.commit import CommitConflictError
from lance.file import LanceFileReader, LanceFileSession

from index.errors import StoreDamaged, StoreError
from index.files import store_errors, sync_folder
from index.store.lance.errors import conflict, is_absent, lance_errors
from index.store.lance.head import Head, decode_head, encode_head
from index.store.lance.upkeep import Upkeep

log = logging.getLogger(__name__)
T = TypeVar("T")
Line = dict[str, Any]  # by column; a column that is absent is null
HEAD_ID = "head"

SCHEMA = pyarrow.schema(
    [
        # Lance's name for a key that its merges compare; it checks nothing by itself.
        pyarrow.field(
            "id",
            pyarrow.string(),
            nullable=False,
            metadata={"lance-schema:unenforced-primary-key": "true"},
        ),
        # Of an image: its row, the model, its bytes, the terms of its metadata.
        ("row", pyarrow.int64()),
        ("fingerprint", pyarrow.string()),
        ("token_bytes", pyarrow.int64()),
        ("embedding_bytes", pyarrow.int64()),
        ("record_bytes", pyarrow.int64()),
        ("picture_bytes", pyarrow.int64()),
        ("terms", pyarrow.large_binary()),
        # Of a removal: its number, and the row that left.
        ("removal", pyarrow.int64()),
        ("removed_row", pyarrow.int64()),
        # The record of an image, the bytes of a file, or the head.
        ("data", pyarrow.large_binary()),
        ("picture", pyarrow.large_binary()),
    ]
)

# An object store that is away is told to the caller; Lance would wait for three minutes.
_REMOTE_OPTIONS = {
    "connect_timeout": "10s",
    "timeout": "60s",
    "client_max_retries": "3",
    "client_retry_timeout": "20",
}
_MAX_ATTEMPTS = 50
_MAX_PAUSE_S = 0.5
_KEYS_PER_QUERY = 1000


def quoted(text: str) -> str:
    """A text as a literal of Lance's SQL."""
    return "'" + text.replace("'", "''") + "'"


def storage_options(uri: str) -> dict[str, str]:
    """How Lance is to speak to the place of a dataset."""
    return dict(_REMOTE_OPTIONS) if "://" in uri else {}


class Snapshot:
    """A dataset as one commit left it."""

    def __init__(self, dataset: lance.LanceDataset, head: Head | None = None) -> None:
        """Reads the head, unless it is known. Raises StoreDamaged, StoreTooNew, StoreError."""
        self.dataset = dataset
        self.head = head or self._read_head()

    def _read_head(self) -> Head:
        # It is in the newest fragment, unless other commits than ours came behind it.
        fragments = self.dataset.get_fragments()
        lines = self._read(f"id = {quoted(HEAD_ID)}", ["data"], fragments[-1:])
        if not lines:
            lines = self.read(f"id = {quoted(HEAD_ID)}", ["data"])
        if len(lines) != 1:
            raise StoreDamaged(
                f"the dataset has {len(lines)} heads and should have one; restore a backup"
            )
        return decode_head(lines[0]["data"])

    def read(self, where: str, columns: Sequence[str]) -> list[Line]:
        """The lines that match, in no order. Raises StoreError."""
        return self._read(where, columns, None)

    def _read(
        self, where: str, columns: Sequence[str], fragments: list[Any] | None
    ) -> list[Line]:
        with lance_errors():
            scanner = self.dataset.scanner(
                columns=list(columns), filter=where, fragments=fragments
            )
            table = scanner.to_table()
        lines: list[Line] = table.to_pylist()
        return lines

    def column(self, where: str, name: str) -> Any:
        """One column of the lines that match, as an array of NumPy, in no order."""
        with lance_errors():
            table = self.dataset.to_table(columns=[name], filter=where)
        return table.column(name).to_numpy()

    def find(self, ids: Iterable[str], columns: Sequence[str]) -> dict[str, Line]:
        """The lines with these ids, by id; `id` is a column of them. Raises StoreError."""
        found: dict[str, Line] = {}
        for lines in self._find("id", [quoted(id_) for id_ in ids], columns):
            found.update({line["id"]: line for line in lines})
        return found

    def find_rows(self, rows: Iterable[int], columns: Sequence[str]) -> dict[int, Line]:
        """The lines of the images in these rows, by row; `row` is a column of them.

        Raises StoreError.
        """
        found: dict[int, Line] = {}
        for lines in self._find("row", [str(row) for row in rows], columns):
            found.update({line["row"]: line for line in lines})
        return found

    def _find(
        self, column: str, literals: Sequence[str], columns: Sequence[str]
    ) -> Iterable[list[Line]]:
        for start in range(0, len(literals), _KEYS_PER_QUERY):
            some = ", ".join(literals[start : start + _KEYS_PER_QUERY])
            yield self.read(f"{column} IN ({some})", [column, *columns])

    def data_bytes(self) -> int:
        """The size of the data files."""
        files = [
            file
            for fragment in self.dataset.get_fragments()
            for file in fragment.data_files()
        ]
        return sum(file.file_size_bytes or 0 for file in files)


@dataclass(frozen=True)
class Change:
    """What a commit writes: the head that follows, and lines that replace those of their ids."""

    head: Head
    lines: Sequence[Line]


class Dataset:
    """A dataset that several processes may read and write. Thread-safe."""

    def __init__(self, uri: str, opened: lance.LanceDataset | None = None) -> None:
        """Opens or creates the dataset at a URI of an object store or a path.

        Raises StoreUnreachable, StoreAccessDenied, StoreTooNew, StoreDamaged, StoreError.
        """
        self._uri = uri
        self._folder = None if "://" in uri else Path(uri)
        self._write_lock = threading.Lock()
        self._upkeep = Upkeep(in_folder=self._folder is not None)
        self._snapshot = Snapshot(opened or _open(uri) or self._create())

    @classmethod
    def existing(cls, uri: str) -> Dataset | None:
        """The dataset at a place; None if there is none. Raises StoreError."""
        opened = _open(uri)
        return None if opened is None else cls(uri, opened)

    def _create(self) -> lance.LanceDataset:
        self._check_nothing_lost()
        lines = [_head_line(Head(store_id=secrets.token_hex(8)))]
        with lance_errors():
            try:
                created = lance.write_dataset(
                    _table(lines),
                    self._uri,
                    mode="create",
                    storage_options=storage_options(self._uri),
                )
            except OSError:
                # Another process may have been faster; then its dataset is the one.
                opened = _open(self._uri)
                if opened is None:
                    raise
                return opened
        if self._folder is not None:
            for path in self._folder.rglob("*"):
                _sync(path)
            sync_folder(self._folder.parent)
        return created

    def _check_nothing_lost(self) -> None:
        """Raises StoreDamaged if there are images, but no version of the dataset any more."""
        with lance_errors():
            files = LanceFileSession(self._uri, storage_options(self._uri))
            for name in files.list_with_delimiter("data").objects:
                # A process that creates the dataset at this moment has written one line.
                if _line_count(f"{self._uri}/{name}") > 1:
                    raise StoreDamaged(
                        f"{self._uri} holds data and no version of a dataset: restore"
                        " `_versions`, or remove it all if its images are not needed"
                    )

    def latest(self) -> Snapshot:
        """The dataset as the latest commit left it. Raises StoreError."""
        snapshot = self._snapshot
        with lance_errors():
            version = snapshot.dataset.latest_version
            if version == snapshot.dataset.version:
                return snapshot
            dataset = snapshot.dataset.checkout_version(version)
        snapshot = Snapshot(dataset)
        self._snapshot = snapshot
        return snapshot

    def change(self, plan: Callable[[Snapshot], tuple[Change | None, T]]) -> T:
        """Commits what `plan` says of the latest snapshot, and returns what else it gave.

        `plan` is called again if another process committed meanwhile; None commits nothing.
        Raises StoreBusy, StoreError; then nothing is stored.
        """
        with self._write_lock:
            for attempt in range(_MAX_ATTEMPTS):
                snapshot = self.latest()
                change, result = plan(snapshot)
                if change is None:
                    return result
                try:
                    self._commit(snapshot, change)
                except CommitConflictError:
                    # Writers of one pace would meet again and again.
                    time.sleep(
                        random.uniform(0, _MAX_PAUSE_S * attempt / _MAX_ATTEMPTS)
                    )
                    continue
                self._tidy()
                return result
        raise conflict(_MAX_ATTEMPTS)

    def _tidy(self) -> None:
        try:
            snapshot = self.latest()
            self._upkeep.tidy(snapshot.dataset, snapshot.head.last_removal)
        except StoreError as error:
            # What was acknowledged is stored already, and the next commit tries again.
            log.warning("upkeep of %s: %s", self._uri, error)

    def _commit(self, snapshot: Snapshot, change: Change) -> None:
        table = _table([*change.lines, _head_line(change.head)])
        with lance_errors():
            merge = snapshot.dataset.merge_insert("id")
            merge.when_matched_update_all().when_not_matched_insert_all()
            transaction, _ = merge.execute_uncommitted(table)
            if self._folder is not None:
                _sync_transaction(self._folder, transaction.operation)
            committed = lance.LanceDataset.commit(
                snapshot.dataset, transaction, max_retries=0
            )
        if self._folder is not None:
            _sync_version(self._folder, committed.version, transaction)
        self._snapshot = Snapshot(committed, change.head)


def _open(uri: str) -> lance.LanceDataset | None:
    """The dataset at a place; None if there is none. Raises StoreError."""
    with lance_errors():
        try:
            return lance.dataset(uri, storage_options=storage_options(uri))
        except ValueError as error:
            if is_absent(error):
                return None
            raise


def _table(lines: Sequence[Line]) -> pyarrow.Table:
    return pyarrow.Table.from_pylist(list(lines), schema=SCHEMA)


def _head_line(head: Head) -> Line:
    return {"id": HEAD_ID, "data": encode_head(head)}


def _line_count(path: str) -> int:
    reader = LanceFileReader(path, storage_options=storage_options(path))
    count: int = reader.num_rows()
    return count


def _sync_transaction(folder: Path, operation: Any) -> None:
    """Flushes the files that a commit is about to name: Lance itself leaves that to the system."""
    names = [
        f"data/{file.path}"
        for fragment in operation.new_fragments
        for file in fragment.files
    ]
    names += [
        fragment.deletion_file.path(fragment.id)
        for fragment in operation.updated_fragments
        if fragment.deletion_file is not None
    ]
    _sync_names(folder, names)


def _sync_version(folder: Path, version: int, transaction: Any) -> None:
    """Flushes the file that made a commit: what is acknowledged is on the disk."""
    manifest = f"_versions/{2**64 - 1 - version:020}.manifest"
    log = f"_transactions/{transaction.read_version}-{transaction.uuid}.txn"
    _sync_names(folder, [log, manifest])


def _sync_names(folder: Path, names: Sequence[str]) -> None:
    with store_errors("a file of the dataset cannot be flushed"):
        for name in names:
            _sync(folder / name)
        for parent in {(folder / name).parent for name in names}:
            sync_folder(parent)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
