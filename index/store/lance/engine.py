"""What the registry of engines needs of a store in Lance."""

from __future__ import annotations

from pathlib import Path

from index.errors import StoreError
from index.ports import OpenStore
from index.store.lance.collections import (
    LanceCollections,
    collection_uri,
    library_uri,
)
from index.store.lance.dataset import Dataset
from index.store.lance.store import LanceStore
from index.store.shared_files import exchange_files


def open_store(setting: str, folder: Path, collection: str | None) -> OpenStore:
    """Opens or creates the store of a library. Raises StoreError."""
    root = _root(setting)
    uri = library_uri(root) if collection is None else collection_uri(root, collection)
    store = LanceStore(uri, folder)
    return OpenStore(
        store, exchange_files=lambda: exchange_files(store, folder), feed=store
    )


def check(setting: str) -> None:
    """Raises StoreError if the place cannot be reached; changes nothing."""
    Dataset.existing(library_uri(_root(setting)))


def collections(setting: str, folder: Path) -> LanceCollections:
    """The collections beside the library. Raises StoreError."""
    return LanceCollections(_root(setting), folder)


def _root(setting: str) -> str:
    """The place of all datasets: a URI of an object store, or a path. Raises StoreError."""
    scheme, _, rest = setting.partition("://")
    root = rest.rstrip("/")
    if scheme != "lance":
        if not root:
            raise StoreError(f"{scheme}:// needs the name of a bucket behind it")
        return f"{scheme}://{root}"
    if not root.startswith("/"):
        raise StoreError(
            "lance:// needs the whole path of a folder: lance:///var/lib/precis/images"
        )
    return root
