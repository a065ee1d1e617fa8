"""The one line of a dataset that tells of all others: identity, counters and totals.

Every commit replaces it, so of two commits at a time one finds that it lost.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace

from index.errors import StoreDamaged, StoreTooNew
from index.files import checksum

VERSION = 1  # of the lines of a dataset
_CHECKSUM_BYTES = 8


@dataclass(frozen=True)
class Head:
    """See docs/storage.md for the bytes."""

    store_id: str
    last_row: int = 0  # the last row assigned
    last_removal: int = 0  # the last number of a removal
    images: int = 0
    token_bytes: int = 0
    embedding_bytes: int = 0
    record_bytes: int = 0  # the rest of the records
    picture_bytes: int = 0

    def plus(self, sign: int, sizes: Sizes) -> Head:
        """The totals with an image more (sign 1) or less (-1)."""
        return replace(
            self,
            images=self.images + sign,
            token_bytes=self.token_bytes + sign * sizes.token_bytes,
            embedding_bytes=self.embedding_bytes + sign * sizes.embedding_bytes,
            record_bytes=self.record_bytes + sign * sizes.record_bytes,
            picture_bytes=self.picture_bytes + sign * sizes.picture_bytes,
        )


@dataclass(frozen=True)
class Sizes:
    """The bytes of one image."""

    token_bytes: int
    embedding_bytes: int
    record_bytes: int
    picture_bytes: int


def encode_head(head: Head) -> bytes:
    """The bytes of a head."""
    body = {"version": VERSION, **asdict(head)}
    return json.dumps({**body, "blake2b": _body_checksum(body)}).encode()


def decode_head(data: bytes) -> Head:
    """The head in its bytes. Raises StoreTooNew, StoreDamaged."""
    try:
        body = json.loads(data)
        stored_checksum = body.pop("blake2b")
        intact = stored_checksum == _body_checksum(body)
        version = body.pop("version")
        if intact and version > VERSION:
            raise StoreTooNew(
                f"the store has format {version}; this version reads up to {VERSION}"
            )
        head = Head(**body)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreDamaged("the head of the dataset cannot be read") from error
    if not intact:
        raise StoreDamaged("the head of the dataset is damaged")
    return head


def _body_checksum(body: dict[str, object]) -> str:
    text = json.dumps(body, sort_keys=True)
    return checksum(text.encode(), _CHECKSUM_BYTES).hex()
