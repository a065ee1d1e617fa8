"""Libraries and collections opened in a store outside the data folder, and why they cannot be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from index.collections import Collections
from index.errors import StoreError
from index.library import Library
from index.registry import StorePlace, store_engine
from tests.index.libraries import open_here


@contextmanager
def collections_in(url: str, folder: Path) -> Iterator[Collections]:
    def open_collection(path: Path) -> Library:
        return open_here(path, store=url, collection=path.name)

    names = store_engine(url).collections(StorePlace(folder, url))
    collections = Collections(folder, open_collection, names)
    try:
        yield collections
    finally:
        collections.close()


def reason(url: str, folder: Path) -> str:
    """The one line that tells why a library cannot be opened."""
    with pytest.raises(StoreError) as caught:
        open_here(folder, store=url)
    message = str(caught.value)
    assert "\n" not in message
    assert ".rs:" not in message
    assert "secret" not in message
    return message
