"""Collections: named, isolated libraries beside one without a name."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from index.collection_folders import CollectionFolders
from index.data_folder import COLLECTION_NAME, COLLECTIONS
from index.errors import CollectionMissing, InvalidCollectionName, StoreClosed
from index.library import Library
from index.ports import CollectionList


@dataclass(frozen=True)
class _Opened:
    library: Library
    identity: str | None  # as the list of collections tells it


class Collections:
    """Opens libraries by name at first use and keeps them open. Thread-safe."""

    def __init__(
        self,
        data_folder: Path,
        open_library: Callable[[Path], Library],
        names: CollectionList | None = None,
    ) -> None:
        """`open_library` opens or creates the library in a folder, which is called as it is.

        `names` is the list of those there are, by default of the folders. Raises StoreError.
        """
        self._folder = data_folder / COLLECTIONS
        self._open_library = open_library
        self._names = names or CollectionFolders(data_folder)
        self._lock = threading.Lock()
        self._opened: dict[str, _Opened] = {}
        self._closed = False

    def names(self) -> list[str]:
        """The names of all collections, sorted. Raises StoreError."""
        return self._names.names()

    def image_counts(self) -> dict[str, int]:
        """How many images each collection holds; opens none. Raises StoreError."""
        counts: dict[str, int] = {}
        for name in self.names():
            opened = self._opened.get(name)
            try:
                counts[name] = (
                    self._names.image_count(name)
                    if opened is None
                    else opened.library.stats().images
                )
            except (StoreClosed, CollectionMissing):
                # Deleted since its name was read.
                continue
        return counts

    def create(self, name: str) -> Library:
        """A new, empty collection. Raises InvalidCollectionName, CollectionExists, StoreError."""
        with self._lock:
            self._check(name)
            self._names.create(name)
            return self._open(name)

    def get(self, name: str) -> Library:
        """The library of a collection.

        Raises InvalidCollectionName, CollectionMissing, StoreError.
        """
        with self._lock:
            self._check(name)
            # Another process may have deleted it, and created another of this name.
            identity = self._names.find(name)
            opened = self._opened.get(name)
            if opened is not None and opened.identity != identity:
                self._close(name)
                opened = None
            # Opening creates what is absent, so that a misspelt name would make a collection.
            if identity is None:
                raise CollectionMissing(f"there is no collection {name!r}")
            return self._open(name) if opened is None else opened.library

    def delete(self, name: str) -> None:
        """Deletes a collection and its images.

        Callers that still hold its library get CollectionMissing from it. Raises
        InvalidCollectionName, CollectionMissing, StoreError.
        """
        with self._lock:
            self._check(name)
            if self._names.find(name) is None:
                raise CollectionMissing(f"there is no collection {name!r}")
            if name in self._opened:
                self._close(name)
            self._names.delete(name)

    def close(self) -> None:
        """Closes every open library."""
        with self._lock:
            self._closed = True
            while self._opened:
                _, opened = self._opened.popitem()
                opened.library.close()
            self._names.close()

    def _check(self, name: str) -> None:
        if self._closed:
            raise StoreClosed("the collections are closed")
        check_name(name)

    def _open(self, name: str) -> Library:
        library = self._open_library(self._folder / name)
        self._opened[name] = _Opened(library, self._names.find(name))
        return library

    def _close(self, name: str) -> None:
        deleted = partial(CollectionMissing, f"collection {name!r} has been deleted")
        self._opened.pop(name).library.close(deleted)


def check_name(name: str) -> None:
    """Raises InvalidCollectionName for a name that no collection can have."""
    if COLLECTION_NAME.fullmatch(name) is None:
        raise InvalidCollectionName(
            "a collection's name has 1 to 63 characters (a-z, 0-9, - and _), the first of them"
            " a letter or digit"
        )
