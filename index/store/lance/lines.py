"""The lines of a dataset: an image, the removal of one, a file. docs/storage.md describes them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from index.filters import metadata_terms
from index.ports import Record
from index.store.lance.dataset import Line
from index.store.lance.head import Head, Sizes
from index.store.record_format import (
    check_update,
    decode_row,
    embedding_byte_count,
    encode_picture,
    encode_record,
)

# What the ids of lines begin with.
IMAGE = "image:"
REMOVAL = "removal:"
FILE = "file:"

_SIZES = ("token_bytes", "embedding_bytes", "record_bytes", "picture_bytes")
# What has to be read of a line that an image or its removal takes the place of.
REMOVAL_COLUMNS = ("row", "removal", "removed_row", *_SIZES)
# All of an image's line but its row, which `find_rows` adds.
IMAGE_COLUMNS = ("id", "fingerprint", *_SIZES, "terms", "data", "picture")


def image_keys(ids: Sequence[str]) -> list[str]:
    """The ids of the lines of images; without ids that no line can have."""
    keys = []
    for id_ in dict.fromkeys(ids):
        try:
            id_.encode()
        except UnicodeEncodeError:
            continue
        keys.append(IMAGE + id_)
    return keys


def image_line(record: Record, data: bytes) -> Line:
    """The line of an image that has no row yet."""
    picture = encode_picture(record.id, record.picture) if record.picture else None
    return {
        "id": IMAGE + record.id,
        "fingerprint": record.fingerprint,
        **_of_record(record, data),
        "picture": picture,
        "picture_bytes": 0 if picture is None else len(picture),
    }


def _of_record(record: Record, data: bytes) -> Line:
    """The columns that follow from a record, its picture apart."""
    token_bytes = len(record.tokens)
    embedding_bytes = embedding_byte_count(record.embedding.size)
    return {
        "token_bytes": token_bytes,
        "embedding_bytes": embedding_bytes,
        "record_bytes": len(data) - token_bytes - embedding_bytes,
        "terms": json.dumps(metadata_terms(record.metadata)).encode(),
        "data": data,
    }


def updated_line(old: Line, record: Record) -> Line:
    """The line of an image with another record under its row. Raises StoreError."""
    old_record, has_picture = decode_line(old)
    check_update(old_record, record)
    data = encode_record(record, has_picture=has_picture)
    return {**old, **_of_record(record, data)}


def removal_of(head: Head, old: Line) -> tuple[Head, Line]:
    """What tells that an image left, in place of its line, and the head after that.

    A line that tells of a removal already goes on to tell of it.
    """
    if old["row"] is None:
        return head, {"removal": old["removal"], "removed_row": old["removed_row"]}
    number = head.last_removal + 1
    head = replace(head.plus(-1, sizes_of(old)), last_removal=number)
    return head, {"removal": number, "removed_row": old["row"]}


def sizes_of(line: Line) -> Sizes:
    """The bytes of an image, from its line."""
    return Sizes(**{name: line[name] for name in _SIZES})


def decode_line(line: Line) -> tuple[Record, bool]:
    """The record in a line, and whether it has a picture. Raises RecordDamaged."""
    return decode_row(line["row"], line["id"].removeprefix(IMAGE), line["data"])
