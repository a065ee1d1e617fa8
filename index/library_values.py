"""What goes into a library and what comes out of it.

Knows nothing of how it is kept. Shapes: K summary tokens, D hidden size, E embedding size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index.ports import Picture, Record


@dataclass(frozen=True)
class NewImage:
    """What ingest hands over."""

    sha256: str  # hex, of the uploaded bytes
    fingerprint: str
    tokens: NDArray[np.float32]  # (K, D) or the first of them, not yet encoded
    embedding: NDArray[np.float32]  # (E,)
    width_px: int
    height_px: int
    metadata: Mapping[str, Any]
    picture: Picture | None


@dataclass(frozen=True)
class Stored:
    """What became of one new image; `created` is False when it was there already."""

    id: str
    created: bool
    record: Record


@dataclass(frozen=True)
class Hit:
    """One image found; `score` is the cosine, exact, from the embedding in the store."""

    id: str
    score: float
    record: Record


@dataclass(frozen=True)
class Page:
    """Records in the order they came in, and where the next page starts, if there is one."""

    records: list[Record]
    next_cursor: str | None


@dataclass(frozen=True)
class Recoded:
    """How far `recode` has come, in images."""

    seen: int
    total: int
    recoded: int  # of those seen, the ones that were in another codec


@dataclass(frozen=True)
class Stats:
    """How much a library holds."""

    images: int
    token_bytes: int
    embedding_bytes: int
    record_bytes: int  # the rest of the records: header, names, metadata, checksum
    picture_bytes: int
    file_bytes: int
    index_vectors: int
