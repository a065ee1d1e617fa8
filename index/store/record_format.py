"""The bytes of a record and of a picture on disk, each with a version and a checksum.

Knows nothing of where they are kept. docs/storage.md describes every byte.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index.errors import InvalidMetadata, InvalidVector, RecordDamaged, StoreError
from index.ports import Picture, Record
from index.vectors.int8_vectors import from_eight_bits, to_eight_bits

RECORD_MAGIC = b"PRCR"
PICTURE_MAGIC = b"PRCP"
VERSION = 2
PICTURE_VERSION = 1
CHECKSUM_BYTES = 8
ID_HEX_DIGITS = 32  # of the sha256: an id that is just that is not written
_HAS_PICTURE, _HEX_FINGERPRINT = 1, 2  # flags
_LARGEST = 65504.0  # component of an embedding
_SCALE = struct.Struct("<f")
# magic, version, flags, bytes of id, of fingerprint, of codec, K, D, E, width_px, height_px,
# created_at_ms, bytes of tokens, bytes of metadata
_HEADER = struct.Struct("<4sBBHHHIIIIIqII")
# Of a record beside tokens and embedding: header, SHA-256, fingerprint, name of a codec, empty
# metadata, checksum.
RECORD_BYTES = _HEADER.size + 32 + 16 + len("mix16@01234567") + 2 + CHECKSUM_BYTES
_PICTURE_HEADER = struct.Struct(
    "<4sBBHHI"
)  # magic, version, zero, bytes of id, of media type, of data
_JSON = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def checksum(data: bytes) -> bytes:
    """BLAKE2b of eight bytes."""
    return hashlib.blake2b(data, digest_size=CHECKSUM_BYTES).digest()


def metadata_bytes(metadata: Mapping[str, Any]) -> bytes:
    """Metadata as compact JSON in UTF-8. Raises InvalidMetadata for what JSON cannot hold, NaN
    included.
    """
    if not isinstance(metadata, Mapping):
        raise InvalidMetadata(f"metadata must be a JSON object, not {type(metadata).__name__}")
    try:
        return _JSON.encode(dict(metadata)).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidMetadata(f"metadata is not JSON: {error}") from error


def embedding_bytes(embedding: NDArray[np.float32]) -> bytes:
    """An embedding (E,) as its scale (float32) and E codes (int8). Raises InvalidVector when that
    cannot hold it.
    """
    return embeddings_bytes([embedding])[0]


def embeddings_bytes(embeddings: Sequence[NDArray[np.float32]]) -> list[bytes]:
    """`embedding_bytes` of each; those of one size, as a batch's are, in one go. Raises InvalidVector."""
    for embedding in embeddings:
        if embedding.ndim != 1 or embedding.size == 0:
            raise InvalidVector(f"an embedding must have shape (E,), not {embedding.shape}")
    if not embeddings:
        return []
    if len({embedding.size for embedding in embeddings}) > 1:
        return [embedding_bytes(embedding) for embedding in embeddings]
    together = np.array(embeddings, dtype=np.float64)
    if not np.isfinite(together).all() or np.abs(together).max(initial=0) > _LARGEST:
        raise InvalidVector(f"an embedding holds NaN, infinity or values beyond {_LARGEST:.0f}")
    codes, scales = to_eight_bits(together.astype(np.float32))
    return [
        _SCALE.pack(scale) + code.tobytes()
        for scale, code in zip(scales.tolist(), codes, strict=True)
    ]


def embedding_byte_count(embedding_size: int, version: int = VERSION) -> int:
    """Bytes of an embedding of that size in a record of that version; the first had float16."""
    return 2 * embedding_size if version == 1 else _SCALE.size + embedding_size


def version_of(data: bytes) -> int:
    """The version of a whole record."""
    return data[4]


def encode_record(
    record: Record, *, has_picture: bool | None = None, embedding: bytes | None = None
) -> bytes:
    """The record without its picture, of which it says whether there is one: as given, or as the
    record has it.

    `embedding` is what `embedding_bytes` gives for it, where that is known.
    Raises InvalidMetadata, InvalidVector, StoreError for values the format cannot hold.
    """
    metadata = metadata_bytes(record.metadata)
    if embedding is None:
        embedding = embedding_bytes(record.embedding)
    if not record.id:
        raise StoreError("a record needs an id")
    try:
        sha256 = _hash_bytes(record.sha256)
        id_ = b"" if record.id == sha256.hex()[:ID_HEX_DIGITS] else record.id.encode()
        fingerprint, hex_flag = _packed_fingerprint(record.fingerprint)
        identity = [id_, fingerprint, record.codec.encode()]
        flags = (
            _HAS_PICTURE
            if (record.picture is not None if has_picture is None else has_picture)
            else 0
        )
        header = _HEADER.pack(
            RECORD_MAGIC,
            VERSION,
            flags | hex_flag,
            *map(len, identity),
            record.token_count,
            record.token_dim,
            record.embedding.size,
            record.width_px,
            record.height_px,
            record.created_at_ms,
            len(record.tokens),
            len(metadata),
        )
    except (struct.error, ValueError) as error:
        raise StoreError(f"record {record.id[:64]!r} cannot be written: {error}") from error
    body = b"".join([header, sha256, *identity, record.tokens, embedding, metadata])
    return body + checksum(body)


def encode_batch(batch: Sequence[Record]) -> list[bytes]:
    """`encode_record` of all of a batch. Raises StoreError also when an id comes twice in it."""
    if len({record.id for record in batch}) != len(batch):
        raise StoreError("an id comes twice in one batch")
    embeddings = embeddings_bytes([record.embedding for record in batch])
    return [
        encode_record(record, embedding=data)
        for record, data in zip(batch, embeddings, strict=True)
    ]


def check_update(old: Record, new: Record) -> None:
    """Raises StoreError unless `new` may take the row of `old`: all that the vector index knows
    must be the same.
    """
    same_identity = (old.id, old.sha256, old.fingerprint) == (new.id, new.sha256, new.fingerprint)
    if not same_identity or embedding_bytes(old.embedding) != embedding_bytes(new.embedding):
        raise StoreError(
            f"an update of {old.id} may not change its id, content, model or embedding"
        )


def decode_record(data: bytes) -> tuple[Record, bool]:
    """The record in `data`, its picture left None, and whether it has one. Raises RecordDamaged."""
    body = _verified(data, RECORD_MAGIC, (1, VERSION), _HEADER.size)
    (
        _,
        _,
        flags,
        *identity,
        count,
        dim,
        embedding_size,
        width,
        height,
        created,
        token_bytes,
        meta_bytes,
    ) = _HEADER.unpack_from(body)
    lengths = [
        *identity,
        token_bytes,
        embedding_byte_count(embedding_size, version_of(body)),
        meta_bytes,
    ]
    parts = _split(body[_HEADER.size :], [32, *lengths])
    sha256, id_, fingerprint, codec, tokens, embedding, metadata = parts
    try:
        record = Record(
            id=id_.decode() or sha256.hex()[:ID_HEX_DIGITS],
            sha256=sha256.hex(),
            fingerprint=fingerprint.hex() if flags & _HEX_FINGERPRINT else fingerprint.decode(),
            codec=codec.decode(),
            token_count=count,
            token_dim=dim,
            tokens=tokens,
            embedding=_embedding(embedding, version_of(body)),
            width_px=width,
            height_px=height,
            created_at_ms=created,
            metadata=json.loads(metadata),
        )
    except ValueError as error:
        raise RecordDamaged("a record with a right checksum holds wrong text") from error
    return record, bool(flags & _HAS_PICTURE)


def set_picture_flag(data: bytes, has_picture: bool) -> bytes:
    """The bytes of a whole record, saying whether it has a picture."""
    flags = data[5] | _HAS_PICTURE if has_picture else data[5] & ~_HAS_PICTURE
    body = data[:5] + bytes([flags]) + data[6:-CHECKSUM_BYTES]
    return body + checksum(body)


def encode_picture(id: str, picture: Picture) -> bytes:
    """A picture with the id of its record inside, so that one can never pass for another's."""
    texts = [id.encode(), picture.media_type.encode()]
    try:
        header = _PICTURE_HEADER.pack(
            PICTURE_MAGIC, PICTURE_VERSION, 0, *map(len, texts), len(picture.data)
        )
    except struct.error as error:
        raise StoreError(f"the picture of {id[:64]!r} cannot be written: {error}") from error
    body = b"".join([header, *texts, picture.data])
    return body + checksum(body)


def decode_picture(id: str, data: bytes) -> Picture:
    """The picture of the record `id`. Raises RecordDamaged."""
    body = _verified(data, PICTURE_MAGIC, (PICTURE_VERSION,), _PICTURE_HEADER.size)
    _, _, _, *lengths = _PICTURE_HEADER.unpack_from(body)
    owner, media_type, picture = _split(body[_PICTURE_HEADER.size :], lengths)
    if owner != id.encode():
        raise RecordDamaged("a picture belongs to another record", id=id)
    return Picture(media_type=media_type.decode(), data=picture)


def _hash_bytes(sha256: str) -> bytes:
    data = bytes.fromhex(sha256)
    if len(data) != 32:
        raise ValueError("sha256 must be 64 hex digits")
    return data


def _packed_fingerprint(fingerprint: str) -> tuple[bytes, int]:
    """A fingerprint in half the bytes if it is hex, as all of ours are, and the flag that says so."""
    try:
        packed = bytes.fromhex(fingerprint)
    except ValueError:
        return fingerprint.encode(), 0
    return (packed, _HEX_FINGERPRINT) if packed.hex() == fingerprint else (fingerprint.encode(), 0)


def _embedding(data: bytes, version: int) -> NDArray[np.float32]:
    if version == 1:
        halves: NDArray[np.float32] = np.frombuffer(data, dtype="<f2").astype(np.float32)
        return halves
    codes = np.frombuffer(data, dtype=np.int8, offset=_SCALE.size)
    (embedding,) = from_eight_bits(
        codes[None], np.array(_SCALE.unpack_from(data), dtype=np.float32)
    )
    return np.asarray(embedding)


def _verified(data: bytes, magic: bytes, versions: Sequence[int], header_bytes: int) -> bytes:
    """The bytes before the checksum, once it, the magic and the version are right."""
    if len(data) < header_bytes + CHECKSUM_BYTES:
        raise RecordDamaged(f"a record of {len(data)} bytes is cut short")
    body = data[:-CHECKSUM_BYTES]
    if checksum(body) != data[-CHECKSUM_BYTES:]:
        raise RecordDamaged("the checksum of a record does not match its bytes")
    if body[:4] != magic or body[4] not in versions:
        raise RecordDamaged(f"not a record of version {versions[-1]} or before")
    return body


def _split(body: bytes, lengths: list[int]) -> list[bytes]:
    if sum(lengths) != len(body):
        raise RecordDamaged("the lengths in a record do not add up")
    parts, start = [], 0
    for length in lengths:
        parts.append(body[start : start + length])
        start += length
    return parts
