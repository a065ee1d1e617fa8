"""Libraries of made-up images for tests, and questions that many tests ask them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from index.library import Library, open_library
from index.ports import PutResult
from tests.index.samples import EMBEDDING_SIZE, FINGERPRINT, TOKEN_SHAPE, make_image


def open_here(folder: Path, **changes: Any) -> Library:
    """The library in a folder, for the model that made the samples."""
    values = {
        "fingerprint": FINGERPRINT,
        "token_shape": TOKEN_SHAPE,
        "embedding_size": EMBEDDING_SIZE,
    }
    return open_library(folder, **{**values, **changes})


def top(library: Library, number: int, k: int = 1) -> list[str]:
    """Ids of the k images nearest to image `number`."""
    query = make_image(number).embedding[None]
    (hits,) = library.search(query, k)
    return [hit.id for hit in hits]


def snapshots(folder: Path) -> list[Path]:
    """The snapshots of the vector index in a folder."""
    return sorted(folder.glob("vectors-*"))


def created(results: list[PutResult]) -> list[bool]:
    """Which images of a `put` were new."""
    return [result.created for result in results]


def page_ids(library: Library, **options: Any) -> list[str]:
    """Ids of one page of the library."""
    page = library.page(**options)
    return [record.id for record in page.records]


def counts(library: Library) -> set[int]:
    """The number of images by the store and by the index: one number, if they agree."""
    stats = library.stats()
    return {stats.images, stats.index_vectors}
