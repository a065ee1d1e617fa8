"""Named collections: libraries side by side under one data folder, isolated from one another.

Knows nothing of what a library holds. A collection is the folder `collections/NAME`, a whole
library of its own.
"""

from __future__ import annotations

import re
import secrets
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

from index.errors import (
    CollectionExists,
    CollectionMissing,
    InvalidCollectionName,
    StoreClosed,
    StoreError,
)
from index.files import sync_folder
from index.library import Library

FOLDER = "collections"
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_DELETED = ".deleted-"


class Collections:
    """Opens libraries by name when they are first asked for, and keeps them open. Thread-safe."""

    def __init__(self, data_folder: Path, open_one: Callable[[Path], Library]) -> None:
        """`open_one` opens, or creates, the library of a folder. Raises StoreError."""
        self._folder = data_folder / FOLDER
        self._open_one = open_one
        self._lock = threading.Lock()
        self._opened: dict[str, Library] = {}
        self._closed = False
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            for left_over in self._folder.glob(_DELETED + "*"):  # a deletion was cut short
                shutil.rmtree(left_over)
        except OSError as error:
            raise StoreError(
                f"the folder of collections cannot be used: {error.strerror}"
            ) from error

    def names(self) -> list[str]:
        """Of all collections, in alphabetical order."""
        return sorted(
            path.name
            for path in self._folder.iterdir()
            if path.is_dir() and _NAME.fullmatch(path.name)
        )

    def create(self, name: str) -> Library:
        """A new, empty collection. Raises InvalidCollectionName, CollectionExists, StoreError."""
        with self._lock:
            self._check(name)
            if (self._folder / name).exists():
                raise CollectionExists(f"there is a collection {name!r} already")
            return self._open(name)

    def get(self, name: str) -> Library:
        """The library of a collection. Raises InvalidCollectionName, CollectionMissing, StoreError."""
        with self._lock:
            self._check(name)
            if name not in self._opened and not (self._folder / name).is_dir():
                raise CollectionMissing(f"there is no collection {name!r}")
            return self._opened[name] if name in self._opened else self._open(name)

    def delete(self, name: str) -> None:
        """Deletes a collection with all its images; those who still hold its library get StoreClosed.

        Raises InvalidCollectionName, CollectionMissing, StoreError.
        """
        with self._lock:
            self._check(name)
            folder = self._folder / name
            if not folder.is_dir():
                raise CollectionMissing(f"there is no collection {name!r}")
            if name in self._opened:
                self._opened.pop(name).close()
            doomed = self._folder / f"{_DELETED}{name}-{secrets.token_hex(4)}"
            try:
                folder.rename(doomed)  # from here on it is gone, however long the rest takes
                sync_folder(self._folder)
                shutil.rmtree(doomed)
            except OSError as error:
                raise StoreError(
                    f"collection {name!r} cannot be deleted: {error.strerror}"
                ) from error

    def close(self) -> None:
        """Closes every library that was opened."""
        with self._lock:
            self._closed = True
            while self._opened:
                self._opened.popitem()[1].close()

    def _check(self, name: str) -> None:
        if self._closed:
            raise StoreClosed("the collections are closed")
        if _NAME.fullmatch(name) is None:
            raise InvalidCollectionName(
                "a name has 1 to 63 small letters, digits, - and _, and begins with none of the two"
            )

    def _open(self, name: str) -> Library:
        self._opened[name] = self._open_one(self._folder / name)
        return self._opened[name]
