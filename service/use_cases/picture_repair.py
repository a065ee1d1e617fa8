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
_WEBP_HEAD = struct.Struct("<4sI4s")  # RIFF, size of what follows, WEBP
_WEBP_CHUNK = struct.Struct("<4sI")
# What the pixels need, and what changes how they are shown, with its flag in the chunk VP8X.
_WEBP_KEPT = {
    b"VP8X": 0, b"VP8 ": 0, b"VP8L": 0, b"ALPH": 0x10, b"ANIM": 0x02, b"ANMF": 0, b"ICCP": 0x20,
    b"EXIF": 0x08,
}  # fmt: skip
_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
# Entropy-coded bits that differ from each other, none of them a marker.
_JPEG_FILLINGS = (bytes(4096), b"\x55" * 4096)


def without_trouble_beside_pixels(data: bytes) -> bytes | None:
    """The file without what is not needed for its pixels; None where that cannot help."""
    if data.startswith(_PNG_SIGNATURE):
        return _repaired_png(data)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return _repaired_webp(data)
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


def _repaired_webp(data: bytes) -> bytes:
    """With the chunks alone that are whole, of an animation at least the first frames."""
    parts: list[bytearray] = []
    flags = 0
    for name, chunk in _webp_chunks(data):
        if name in _WEBP_KEPT:
            parts.append(bytearray(chunk))
            flags |= _WEBP_KEPT[name]
    if parts and parts[0].startswith(b"VP8X") and len(parts[0]) > _WEBP_CHUNK.size:
        # A lossless picture has transparency without a chunk of its own.
        parts[0][_WEBP_CHUNK.size] &= flags | _WEBP_KEPT[b"ALPH"]
    body = b"".join(parts)
    return _WEBP_HEAD.pack(b"RIFF", 4 + len(body), b"WEBP") + body


def _webp_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The chunks that are whole."""
    start = _WEBP_HEAD.size
    while start + _WEBP_CHUNK.size <= len(data):
        name, length = _WEBP_CHUNK.unpack_from(data, start)
        end = start + _WEBP_CHUNK.size + length + length % 2  # padded to an even length
        if end > len(data):
            return
        yield name, data[start:end]
        start = end


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
