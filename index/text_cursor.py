"""Cursors of lists in the order of a text in the metadata: opaque, so that no client makes one."""

from __future__ import annotations

import base64
import binascii
import struct
import zlib

from index.errors import InvalidCursor
from index.ports import TextAndRow

_VERSION = 3  # 1 and 2 are those of the library's lists by row
_HEAD = struct.Struct(
    ">Bq"
)  # version, row; the text in UTF-8 follows, and a CRC-32 of it all
_CRC_BYTES = 4


def write_text_cursor(place: TextAndRow) -> str:
    """The cursor of the page behind a place in the list."""
    text, row = place
    data = _HEAD.pack(_VERSION, row) + text.encode()
    data += zlib.crc32(data).to_bytes(_CRC_BYTES, "big")
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def read_text_cursor(cursor: str) -> TextAndRow:
    """The place that a cursor is behind. Raises InvalidCursor."""
    padded = cursor + "=" * (-len(cursor) % 4)
    try:
        data = base64.b64decode(padded, altchars=b"-_", validate=True)
        body, crc = data[:-_CRC_BYTES], int.from_bytes(data[-_CRC_BYTES:], "big")
        version, row = _HEAD.unpack_from(body)
        text = body[_HEAD.size :].decode()
    except (binascii.Error, struct.error, ValueError) as error:
        raise InvalidCursor("not a cursor of this library") from error
    if crc != zlib.crc32(body):
        raise InvalidCursor("not a cursor of this library")
    if version != _VERSION:
        raise InvalidCursor("a cursor of a list in the other order")
    return text, row
