"""Made-up records and images, the same for the same number."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from index.library import image_id
from index.ports import NewImage, Picture, Record
from index.vectors.arithmetic import round_to_int8

FINGERPRINT = "f1" * 32
OTHER_FINGERPRINT = "0e" * 32
TOKEN_SHAPE = (4, 12)
EMBEDDING_SIZE = 16


def make_image(number: int, **changes: Any) -> NewImage:
    """Image `number`: its content, tokens and embedding follow from the number alone."""
    random = np.random.default_rng(number)
    embedding = random.normal(size=EMBEDDING_SIZE)
    values: dict[str, Any] = {
        "sha256": hashlib.sha256(str(number).encode()).hexdigest(),
        "fingerprint": FINGERPRINT,
        "tokens": random.normal(size=TOKEN_SHAPE).astype(np.float32),
        "embedding": (embedding / np.linalg.norm(embedding)).astype(np.float32),
        "width_px": 640 + number,
        "height_px": 480,
        "metadata": {"number": number, "tags": ["even" if number % 2 == 0 else "odd"]},
        "picture": Picture("image/webp", b"picture %d" % number) if number % 3 == 0 else None,
    }
    return NewImage(**{**values, **changes})


def make_record(number: int, **changes: Any) -> Record:
    """The record of `make_image(number)`, its tokens in fp16."""
    image = make_image(number)
    values: dict[str, Any] = {
        "id": image_id(image.sha256),
        "sha256": image.sha256,
        "fingerprint": image.fingerprint,
        "codec": "fp16",
        "token_count": TOKEN_SHAPE[0],
        "token_dim": TOKEN_SHAPE[1],
        "tokens": image.tokens.astype("<f2").tobytes(),
        "embedding": round_to_int8(image.embedding[None])[0],
        "width_px": image.width_px,
        "height_px": image.height_px,
        "created_at_ms": 1_700_000_000_000 + number,
        "metadata": image.metadata,
        "picture": image.picture,
    }
    return Record(**{**values, **changes})


def kept_embedding(number: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The embedding (E,) of image `number` as a library keeps it, at length 1."""
    kept = round_to_int8(make_image(number).embedding[None])[0]
    return (kept / np.linalg.norm(kept)).astype(np.float32)


def make_id(number: int) -> str:
    """The id of image `number`."""
    return image_id(make_image(number).sha256)


def same(one: Record | None, other: Record | None, *, with_picture: bool = False) -> bool:
    """Whether two records are equal: an array in them keeps `==` from telling."""
    if one is None or other is None:
        return one is other
    plain = [f.name for f in fields(Record) if f.name not in ("embedding", "picture")]
    return (
        all(getattr(one, name) == getattr(other, name) for name in plain)
        and np.array_equal(one.embedding, other.embedding)
        and (not with_picture or one.picture == other.picture)
    )


def unit_vectors(
    seed: int, count: int, size: int = EMBEDDING_SIZE
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """`count` random directions (count, size)."""
    vectors = np.random.default_rng(seed).normal(size=(count, size))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def rows_of(*numbers: int | Sequence[int]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Rows as an index takes them."""
    return np.array(numbers, dtype=np.int64).reshape(-1)
