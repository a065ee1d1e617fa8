"""Libraries of made-up images for tests, and questions that many tests ask them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from index.filters import Filter
from index.library import Library, open_library
from index.ports import Hit, PutResult, Record
from tests.index.samples import (
    EMBEDDING_SIZE,
    FINGERPRINT,
    TOKEN_SHAPE,
    make_id,
    make_image,
)


def open_here(folder: Path, **changes: Any) -> Library:
    """The library in a folder, for the model that made the samples."""
    values = {
        "fingerprint": FINGERPRINT,
        "token_shape": TOKEN_SHAPE,
        "embedding_size": EMBEDDING_SIZE,
    }
    return open_library(folder, **{**values, **changes})


@contextmanager
def opened(folder: Path, **changes: Any) -> Iterator[Library]:
    """`open_here`, closed at the end."""
    library = open_here(folder, **changes)
    try:
        yield library
    finally:
        library.close()


def top(library: Library, number: int, k: int = 1) -> list[str]:
    """Ids of the k images nearest to image `number`."""
    hits = nearest(library, query_of(number), k)
    return hit_ids(hits)


def snapshots(folder: Path) -> list[Path]:
    """The snapshots of the vector index in a folder."""
    return sorted(folder.glob("vectors-*"))


def created(results: list[PutResult]) -> list[bool]:
    """Which images of a `put` were new."""
    return [result.created for result in results]


def page_ids(library: Library, **options: Any) -> list[str]:
    """Ids of one page of the library."""
    page = library.page(**options)
    return record_ids(page.records)


def counts(library: Library) -> set[int]:
    """The number of images by the store and by the index: one number, if they agree."""
    stats = library.stats()
    return {stats.images, stats.index_vectors}


def query_of(number: int) -> np.ndarray:
    """The embedding of image `number` as a batch of one query (1, E)."""
    return make_image(number).embedding[None]


def nearest(
    library: Library, query: np.ndarray, k: int, where: Filter | None = None
) -> list[Hit]:
    """The hits of one query (1, E)."""
    (hits,) = library.search(query, k, where)
    return hits


def hit_ids(hits: Iterable[Hit]) -> list[str]:
    return [hit.id for hit in hits]


def record_ids(records: Iterable[Record]) -> list[str]:
    return [record.id for record in records]


def read(library: Library, number: int) -> Record:
    """The record of image `number`, with its picture; it must be there."""
    (record,) = library.get([make_id(number)], with_picture=True)
    assert record is not None
    return record


def read_tokens(library: Library, number: int) -> np.ndarray:
    """The tokens of image `number`, which must be there."""
    (tokens,) = library.tokens([make_id(number)])
    assert tokens is not None
    return tokens


def assert_found(library: Library, numbers: Iterable[int]) -> None:
    """Each image is the nearest to its own embedding."""
    for number in numbers:
        assert top(library, number) == [make_id(number)]


def assert_kept(library: Library, number: int) -> None:
    """Image `number` comes back: content, metadata and picture as they were, tokens nearly."""
    image = make_image(number)
    record = read(library, number)
    assert record.sha256 == image.sha256
    assert record.metadata == image.metadata
    assert record.picture == image.picture
    assert (record.width_px, record.height_px) == (image.width_px, image.height_px)
    # However often it was recoded: sq8 of what sq8 decoded is the same, and fp16 adds next to
    # nothing.
    errors = read_tokens(library, number) - image.tokens
    assert np.abs(errors).max() < 0.02
