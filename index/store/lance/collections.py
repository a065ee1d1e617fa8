"""The collections beside a library in Lance: a line for each, and a dataset for each.

The line is in the dataset of the library without a name, and tells the name of the other dataset:
a collection of a name that was used before never finds the old one's images.
"""

from __future__ import annotations

import secrets
from pathlib import Path

import lance

from index.derived_folders import DerivedFolders
from index.errors import CollectionExists, CollectionMissing
from index.store.lance.dataset import (
    Change,
    Dataset,
    Snapshot,
    quoted,
    storage_options,
)
from index.store.lance.errors import lance_errors

_LINE = "collection:"
_LIBRARY = "library.lance"


def library_uri(root: str) -> str:
    """Where the dataset of the library without a name is."""
    return f"{root}/{_LIBRARY}"


def collection_uri(root: str, name: str) -> str:
    """Where the dataset of a collection is, which is entered in the list. Raises StoreError."""
    return _uri(root, _enter(Dataset(library_uri(root)), name)[0])


def _uri(root: str, number: str) -> str:
    return f"{root}/collection-{number}.lance"


def _enter(dataset: Dataset, name: str) -> tuple[str, bool]:
    """The number of a collection, and whether it is new."""
    key = _LINE + name

    def plan(snapshot: Snapshot) -> tuple[Change | None, tuple[str, bool]]:
        present = snapshot.find([key], ["data"]).get(key)
        if present is not None and present["data"] is not None:
            return None, (present["data"].decode(), False)
        number = secrets.token_hex(8)
        line = {"id": key, "data": number.encode()}
        return Change(snapshot.head, [line]), (number, True)

    return dataset.change(plan)


class LanceCollections:
    """See CollectionList."""

    def __init__(self, root: str, data_folder: Path) -> None:
        """`data_folder` has what this process derives from the collections. Raises StoreError."""
        self._root = root
        self._dataset = Dataset(library_uri(root))
        self._derived = DerivedFolders(data_folder)
        self._derived.keep_only(self.names())

    def names(self) -> list[str]:
        """See CollectionList."""
        where = f"starts_with(id, {quoted(_LINE)}) AND data IS NOT NULL"
        lines = self._dataset.latest().read(where, ["id"])
        return sorted(line["id"].removeprefix(_LINE) for line in lines)

    def find(self, name: str) -> str | None:
        """See CollectionList."""
        return _number(self._dataset.latest(), name)

    def create(self, name: str) -> None:
        """See CollectionList."""
        _, is_new = _enter(self._dataset, name)
        if not is_new:
            raise CollectionExists(f"there is a collection {name!r} already")

    def image_count(self, name: str) -> int:
        """See CollectionList."""
        number = self.find(name)
        if number is None:
            raise CollectionMissing(f"there is no collection {name!r}")
        dataset = Dataset.existing(_uri(self._root, number))
        # Created, and not opened yet; or deleted since.
        return 0 if dataset is None else dataset.latest().head.images

    def delete(self, name: str) -> None:
        """See CollectionList."""

        def plan(snapshot: Snapshot) -> tuple[Change, str]:
            number = _number(snapshot, name)
            if number is None:
                raise CollectionMissing(f"there is no collection {name!r}")
            return Change(snapshot.head, [{"id": _LINE + name}]), number

        # The line first: what a crash leaves of the dataset, no name leads to.
        uri = _uri(self._root, self._dataset.change(plan))
        with lance_errors():
            lance.LanceDataset.drop(uri, storage_options(uri), ignore_not_found=True)
        self._derived.remove(name)

    def close(self) -> None:
        """See CollectionList."""


def _number(snapshot: Snapshot, name: str) -> str | None:
    """What the line of a collection tells; None if there is no collection of the name."""
    line = snapshot.find([_LINE + name], ["data"]).get(_LINE + name)
    return None if line is None or line["data"] is None else line["data"].decode()
