"""Collections: named, isolated libraries under one data folder, each in `collections/NAME`."""

from __future__ import annotations

import secrets
import shutil
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

from index.data_folder import COLLECTION_NAME, COLLECTIONS, collection_names
from index.errors import (
    CollectionExists,
    CollectionMissing,
    InvalidCollectionName,
    StoreClosed,
)
from index.files import store_errors, sync_folder
from index.library import Library
from index.store.sqlite import count_images

_DELETED = ".deleted-"


class Collections:
    """Opens libraries by name at first use and keeps them open. Thread-safe."""

    def __init__(
        self, data_folder: Path, open_library: Callable[[Path], Library]
    ) -> None:
        """`open_library` opens or creates the library in a folder. Raises StoreError."""
        self._data_folder = data_folder
        self._folder = data_folder / COLLECTIONS
        self._open_library = open_library
        self._lock = threading.Lock()
        self._libraries: dict[str, Library] = {}
        self._closed = False
        with store_errors("the folder of collections cannot be used"):
            self._folder.mkdir(parents=True, exist_ok=True)
            # Deletions that a crash interrupted after the rename: finish them.
            for remains in self._folder.glob(_DELETED + "*"):
                shutil.rmtree(remains)

    def names(self) -> list[str]:
        """The names of all collections, sorted."""
        return collection_names(self._data_folder)

    def image_counts(self) -> dict[str, int]:
        """How many images each collection holds; opens none. Raises StoreError."""
        counts: dict[str, int] = {}
        for name in self.names():
            library = self._libraries.get(name)
            try:
                counts[name] = (
                    count_images(self._folder / name)
                    if library is None
                    else library.stats().images
                )
            except (StoreClosed, CollectionMissing):
                # Deleted since its name was read.
                continue
        return counts

    def create(self, name: str) -> Library:
        """A new, empty collection. Raises InvalidCollectionName, CollectionExists, StoreError."""
        with self._lock:
            self._check(name)
            if (self._folder / name).exists():
                raise CollectionExists(f"there is a collection {name!r} already")
            return self._open(name)

    def get(self, name: str) -> Library:
        """The library of a collection.

        Raises InvalidCollectionName, CollectionMissing, StoreError.
        """
        with self._lock:
            self._check(name)
            library = self._libraries.get(name)
            if library is not None:
                return library
            # Opening creates what is absent, so that a misspelt name would make a collection.
            if not (self._folder / name).is_dir():
                raise CollectionMissing(f"there is no collection {name!r}")
            return self._open(name)

    def delete(self, name: str) -> None:
        """Deletes a collection and its images.

        Callers that still hold its library get CollectionMissing from it. Raises
        InvalidCollectionName, CollectionMissing, StoreError.
        """
        with self._lock:
            self._check(name)
            folder = self._folder / name
            if not folder.is_dir():
                raise CollectionMissing(f"there is no collection {name!r}")
            if name in self._libraries:
                deleted = partial(
                    CollectionMissing, f"collection {name!r} has been deleted"
                )
                self._libraries.pop(name).close(deleted)
            doomed = self._folder / f"{_DELETED}{name}-{secrets.token_hex(4)}"
            with store_errors(f"collection {name!r} cannot be deleted"):
                # The rename is atomic and is the deletion: a crash while the files go one by one
                # must not leave half a library under a valid name.
                folder.rename(doomed)
                sync_folder(self._folder)
                shutil.rmtree(doomed)

    def close(self) -> None:
        """Closes every open library."""
        with self._lock:
            self._closed = True
            while self._libraries:
                _, library = self._libraries.popitem()
                library.close()

    def _check(self, name: str) -> None:
        if self._closed:
            raise StoreClosed("the collections are closed")
        check_name(name)

    def _open(self, name: str) -> Library:
        library = self._open_library(self._folder / name)
        self._libraries[name] = library
        return library


def check_name(name: str) -> None:
    """Raises InvalidCollectionName for a name that no collection can have."""
    if COLLECTION_NAME.fullmatch(name) is None:
        raise InvalidCollectionName(
            "a collection's name has 1 to 63 of a-z, 0-9, - and _, and starts with a letter"
            " or digit"
        )
