"""What an import reads of one picture, and the names by which pictures are known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import PurePosixPath
from typing import Any

from PIL import Image

from service.errors import EmptyFile, UploadTooLarge
from service.use_cases.images import formats

FILENAME = "filename"  # key in the metadata, as `precis ingest` writes it


@dataclass(frozen=True)
class Content:
    """What an import reads of one picture."""

    data: bytes
    metadata: Mapping[str, Any]  # found beside the picture; not checked


# A picture in a shard: its name there, and how to read it. Reading is good until the next one is
# asked for, and raises PictureError, UploadTooLarge or ImportUnreadable.
ShardPicture = tuple[str, Callable[[], Content]]


def suffix(name: str) -> str:
    """In lower case, with its dot; empty for a name without one."""
    return PurePosixPath(name).suffix.lower()


@cache
def picture_suffixes() -> frozenset[str]:
    """Of the pictures that can be read."""
    readable = formats()
    return frozenset(
        extension
        for extension, name in Image.registered_extensions().items()
        if name in readable
    )


def check_size(size: int, max_bytes: int) -> None:
    """Raises EmptyFile or UploadTooLarge."""
    if not size:
        raise EmptyFile("The file has no bytes.")
    if size > max_bytes:
        raise UploadTooLarge(f"It has {size} bytes, the limit is {max_bytes}.")
