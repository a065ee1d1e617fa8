"""Files whose pixels are whole, though something beside the pixels is not."""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from collections.abc import Iterator

from PIL import Image

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_HEAD = struct.Struct(">I4s")  # length and name of a chunk
_CRC_BYTES = 4
# What the pixels need, and the orientation.
_PNG_KEPT = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"eXIf"})
_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
# Entropy-coded bits that differ from each other, none of them a marker.
_JPEG_FILLINGS = (bytes(4096), b"\x55" * 4096)


def without_trouble_beside_pixels(data: bytes) -> bytes | None:
    """The file without what is not needed for its pixels; None where that cannot help."""
    if data.startswith(_PNG_SIGNATURE):
        return _repaired_png(data)
    if data.startswith(_JPEG_START) and not data.endswith(_JPEG_END):
        return _repaired_jpeg(data)
    return None


def _repaired_png(data: bytes) -> bytes:
    """Without texts, colour profiles and other ancillary chunks, however long or damaged."""
    parts = [_PNG_SIGNATURE]
    for name, chunk in _png_chunks(data):
        if name == b"eXIf" and not _has_right_crc(chunk):
            continue
        if name in _PNG_KEPT:
            parts.append(chunk)
    return b"".join(parts)


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    start = len(_PNG_SIGNATURE)
    while start + _PNG_HEAD.size <= len(data):
        length, name = _PNG_HEAD.unpack_from(data, start)
        end = start + _PNG_HEAD.size + length + _CRC_BYTES
        yield name, data[start:end]
        start = end


def _has_right_crc(chunk: bytes) -> bool:
    crc = int.from_bytes(chunk[-_CRC_BYTES:], "big")
    return zlib.crc32(chunk[4:-_CRC_BYTES]) == crc


def _repaired_jpeg(data: bytes) -> bytes | None:
    """With its end marker, if nothing else is missing."""
    data = data.removesuffix(_JPEG_END[:1])
    # The decoder fills what is missing with grey and does not complain. But pixels that are all
    # there do not depend on what follows them; so two different endings show whether they are.
    try:
        first, second = (_pixel_hash(data + filling) for filling in _JPEG_FILLINGS)
    except Exception:
        # As in `decode`: broken bytes make Pillow raise almost anything.
        return None
    return data + _JPEG_END if first == second else None


def _pixel_hash(data: bytes) -> bytes:
    # At full size: a draft would read no more than the first scan of a progressive file.
    with Image.open(io.BytesIO(data + _JPEG_END), formats=["JPEG"]) as image:
        return hashlib.sha256(image.tobytes()).digest()
