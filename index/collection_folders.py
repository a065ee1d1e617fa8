"""Collections as folders: each is `collections/NAME` in the data folder, with its store inside."""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path

from index.data_folder import COLLECTIONS, collection_names
from index.errors import CollectionExists, CollectionMissing
from index.files import store_errors, sync_folder
from index.store.sqlite import count_images

_DELETED = ".deleted-"


class CollectionFolders:
    """See CollectionList."""

    def __init__(self, data_folder: Path) -> None:
        """Raises StoreError."""
        self._data_folder = data_folder
        self._folder = data_folder / COLLECTIONS
        with store_errors("the folder of collections cannot be used"):
            self._folder.mkdir(parents=True, exist_ok=True)
            # Deletions that a crash interrupted after the rename: finish them.
            for remains in self._folder.glob(_DELETED + "*"):
                shutil.rmtree(remains)

    def names(self) -> list[str]:
        """See CollectionList."""
        return collection_names(self._data_folder)

    def find(self, name: str) -> str | None:
        """See CollectionList."""
        # One process has the data folder, and it deletes no folder behind its own back.
        return name if (self._folder / name).is_dir() else None

    def create(self, name: str) -> None:
        """See CollectionList."""
        # The store makes the folder.
        if (self._folder / name).exists():
            raise CollectionExists(f"there is a collection {name!r} already")

    def image_count(self, name: str) -> int:
        """See CollectionList."""
        return count_images(self._folder / name)

    def delete(self, name: str) -> None:
        """See CollectionList."""
        folder = self._folder / name
        if not folder.is_dir():
            raise CollectionMissing(f"there is no collection {name!r}")
        doomed = self._folder / f"{_DELETED}{name}-{secrets.token_hex(4)}"
        with store_errors(f"collection {name!r} cannot be deleted"):
            # The rename is atomic and is the deletion: a crash while the files go one by one
            # must not leave half a library under a valid name.
            folder.rename(doomed)
            sync_folder(self._folder)
            shutil.rmtree(doomed)

    def close(self) -> None:
        """See CollectionList."""
