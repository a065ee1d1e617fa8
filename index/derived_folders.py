"""The folders of collections whose images are elsewhere: what one process derives from them."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from index.data_folder import COLLECTIONS, collection_names
from index.files import store_errors
from index.store.sqlite import FILE_NAME


class DerivedFolders:
    """Folders that can be removed: all that is in them can be derived again."""

    def __init__(self, data_folder: Path) -> None:
        self._data_folder = data_folder

    def keep_only(self, names: Iterable[str]) -> None:
        """Removes what was derived from collections that other processes have deleted since.

        Raises StoreError.
        """
        present = set(names)
        for name in collection_names(self._data_folder):
            # A library of its own is there if the data folder once was used with SQLite.
            if name not in present and not (self._path(name) / FILE_NAME).exists():
                self.remove(name)

    def remove(self, name: str) -> None:
        """Removes the folder of a collection, if there is one. Raises StoreError."""
        folder = self._path(name)
        if folder.exists():
            with store_errors(f"{folder.name} cannot be removed"):
                shutil.rmtree(folder)

    def _path(self, name: str) -> Path:
        return self._data_folder / COLLECTIONS / name
