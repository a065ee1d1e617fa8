"""The images that a cluster has stored in Lance, read without the cluster."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from compressor.ports import SummaryModel
from index.library import image_id, open_library


def id_of(data: bytes) -> str:
    """The id of the image with these bytes."""
    return image_id(hashlib.sha256(data).hexdigest())


def stored_ids(folder: Path, model: SummaryModel) -> Iterator[str]:
    """The ids in the datasets under `folder / "lance"`, each as often as it is there."""
    library = open_library(
        folder / "reader",
        fingerprint=model.fingerprint,
        token_shape=model.tokens_shape,
        embedding_size=model.embedding_size,
        store=f"lance://{folder / 'lance'}",
    )
    try:
        cursor = None
        while True:
            page = library.page(limit=1000, cursor=cursor)
            yield from (record.id for record in page.records)
            cursor = page.next_cursor
            if cursor is None:
                return
    finally:
        library.close()
