"""Made-up records and images, the same for the same number."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
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
    embedding /= np.linalg.norm(embedding)
    tokens = random.normal(size=TOKEN_SHAPE)
    content = str(number).encode()
    picture = None
    if number % 3 == 0:
        picture = Picture("image/webp", b"picture %d" % number)
    values: dict[str, Any] = {
        "sha256": hashlib.sha256(content).hexdigest(),
        "fingerprint": FINGERPRINT,
        "tokens": tokens.astype(np.float32),
        "embedding": embedding.astype(np.float32),
        "width_px": 640 + number,
        "height_px": 480,
        "metadata": {"number": number, "tags": ["odd" if number % 2 else "even"]},
        "picture": picture,
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
    (kept,) = round_to_int8(make_image(number).embedding[None])
    kept /= np.linalg.norm(kept)
    return kept


def make_id(number: int) -> str:
    """The id of image `number`."""
    return image_id(make_image(number).sha256)


def make_images(numbers: Iterable[int]) -> list[NewImage]:
    """Several images."""
    return [make_image(number) for number in numbers]


def make_records(numbers: Iterable[int]) -> list[Record]:
    """Several records."""
    return [make_record(number) for number in numbers]


def make_ids(numbers: Iterable[int]) -> list[str]:
    """The ids of several images."""
    return [make_id(number) for number in numbers]


def same(
    one: Record | None, other: Record | None, *, with_picture: bool = False
) -> bool:
    """Whether two records are equal: an array in them keeps `==` from telling."""
    if one is None or other is None:
        return one is other
    if not np.array_equal(one.embedding, other.embedding):
        return False
    if with_picture and one.picture != other.picture:
        return False
    names = {field.name for field in fields(Record)} - {"embedding", "picture"}
    return all(getattr(one, name) == getattr(other, name) for name in names)


def unit_vectors(
    seed: int, count: int, size: int = EMBEDDING_SIZE
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """`count` random directions (count, size)."""
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(count, size))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32)


def rows_of(*numbers: int | Sequence[int]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Rows as an index takes them."""
    return np.array(numbers, dtype=np.int64).reshape(-1)
