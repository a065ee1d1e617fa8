"""Cursors of a listing: a row, written so that nobody is tempted to make one up.

Knows nothing of what is listed.
"""

from __future__ import annotations

import base64
import binascii
import struct
import zlib

from index.errors import BadCursor

_VERSION = 1
_CURSOR = struct.Struct(">BqI")  # version, row, CRC-32 of both


def write_cursor(row: int) -> str:
    """The cursor behind `row`."""
    head = _CURSOR.pack(_VERSION, row, 0)[:-4]
    return base64.urlsafe_b64encode(head + zlib.crc32(head).to_bytes(4, "big")).decode().rstrip("=")


def read_cursor(cursor: str) -> int:
    """The row of a cursor. Raises BadCursor."""
    try:
        data = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        version, row, crc = _CURSOR.unpack(data)
    except (binascii.Error, struct.error, ValueError) as error:
        raise BadCursor("not a cursor of this library") from error
    if version != _VERSION or crc != zlib.crc32(data[:-4]):
        raise BadCursor("not a cursor of this library")
    return int(row)
