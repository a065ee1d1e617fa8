"""Byte formats of a record and of a picture, versioned and checksummed; see docs/storage.md."""

from __future__ import annotations

import json
import operator
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from index.errors import InvalidMetadata, InvalidVector, RecordDamaged, StoreError
from index.files import checksum
from index.ports import Floats, Picture, Record
from index.vectors.arithmetic import from_int8, to_int8

RECORD_MAGIC = b"PRCR"
PICTURE_MAGIC = b"PRCP"
VERSION = 2
PICTURE_VERSION = 1
# Eight bytes find accidental damage; nobody who can write the file is kept from forging it.
CHECKSUM_BYTES = 8
ID_HEX_DIGITS = 32  # of the SHA-256
_HAS_PICTURE = 1  # flag
_PACKED_FINGERPRINT = 2  # flag: two hex digits a byte
_MAX_COMPONENT = 65504.0  # of an embedding: what the float16 of version 1 could hold
_SCALE = struct.Struct("<f")
# magic, version, flags, bytes of id, of fingerprint, of codec, K, D, E, width_px, height_px,
# created_at_ms, bytes of tokens, bytes of metadata
_HEADER = struct.Struct("<4sBBHHHIIIIIqII")
# magic, version, zero, bytes of id, of media type, of data
_PICTURE_HEADER = struct.Struct("<4sBBHHI")
_SHA256_BYTES = 32
# Of a record besides tokens and embedding: header, SHA-256, packed fingerprint, a codec's name,
# empty metadata, checksum.
RECORD_BYTES = (
    _HEADER.size + _SHA256_BYTES + 16 + len("mix16@01234567") + 2 + CHECKSUM_BYTES
)
# NaN is refused: it is no JSON, and other readers of the file would fail on it.
_JSON = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def metadata_bytes(metadata: Mapping[str, Any]) -> bytes:
    """Metadata as compact JSON in UTF-8. Raises InvalidMetadata for what JSON cannot hold."""
    if not isinstance(metadata, Mapping):
        raise InvalidMetadata(
            f"metadata must be a JSON object, not {type(metadata).__name__}"
        )
    try:
        return _JSON.encode(dict(metadata)).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidMetadata(f"metadata is not JSON: {error}") from error


def embedding_bytes(embedding: Floats) -> bytes:
    """An embedding (E,) as its scale (float32) and E codes (int8). Raises InvalidVector."""
    return embeddings_bytes([embedding])[0]


def embeddings_bytes(embeddings: Sequence[Floats]) -> list[bytes]:
    """`embedding_bytes` of each embedding, in one go where all have one size.

    Raises InvalidVector for a wrong shape, NaN, infinity or values beyond 65504.
    """
    for embedding in embeddings:
        if embedding.ndim != 1 or embedding.size == 0:
            raise InvalidVector(
                f"an embedding must have shape (E,), not {embedding.shape}"
            )
    sizes = {embedding.size for embedding in embeddings}
    if not sizes:
        return []
    if len(sizes) > 1:
        return [embedding_bytes(embedding) for embedding in embeddings]
    # In float64: a value beyond float32 must be refused, not rounded to infinity first.
    vectors = np.array(embeddings, dtype=np.float64)
    # NaN fails this comparison too, and infinity.
    if not np.abs(vectors).max() <= _MAX_COMPONENT:
        raise InvalidVector(
            f"an embedding holds NaN, infinity or values beyond {_MAX_COMPONENT}"
        )
    codes, scales = to_int8(vectors.astype(np.float32))
    scale_bytes = map(_SCALE.pack, scales.tolist())
    code_bytes = [code.tobytes() for code in codes]
    return list(map(operator.add, scale_bytes, code_bytes))


def embedding_byte_count(embedding_size: int, version: int = VERSION) -> int:
    """Bytes of an embedding in a record of that version; version 1 kept float16."""
    if version == 1:
        return 2 * embedding_size
    return _SCALE.size + embedding_size


def version_of(data: bytes) -> int:
    """The version of a whole record."""
    return data[4]


def encode_record(
    record: Record, *, has_picture: bool | None = None, embedding: bytes | None = None
) -> bytes:
    """The bytes of a record without its picture.

    `has_picture` says whether a picture is kept, by default whether the record has one; `embedding`
    is the result of `embedding_bytes` if it is at hand. Raises InvalidMetadata, InvalidVector, and
    StoreError for values that the format cannot hold.
    """
    metadata = metadata_bytes(record.metadata)
    if embedding is None:
        embedding = embedding_bytes(record.embedding)
    if not record.id:
        raise StoreError("a record needs an id")
    if has_picture is None:
        has_picture = record.picture is not None
    flags = _HAS_PICTURE if has_picture else 0
    try:
        sha256 = _sha256_bytes(record.sha256)
        # Ids and fingerprints are hex digits as a rule. An id that follows from the hash is not
        # written and a fingerprint is packed: 64 bytes less for each record.
        implied_id = sha256.hex()[:ID_HEX_DIGITS]
        id_ = b"" if record.id == implied_id else record.id.encode()
        fingerprint, fingerprint_flag = _pack_fingerprint(record.fingerprint)
        identity = [id_, fingerprint, record.codec.encode()]
        header = _HEADER.pack(
            RECORD_MAGIC,
            VERSION,
            flags | fingerprint_flag,
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
        raise StoreError(
            f"record {record.id[:64]!r} cannot be written: {error}"
        ) from error
    parts = [header, sha256, *identity, record.tokens, embedding, metadata]
    return _seal(b"".join(parts))


def encode_batch(batch: Sequence[Record]) -> list[bytes]:
    """`encode_record` of each record. Raises StoreError also if an id occurs twice."""
    ids = {record.id for record in batch}
    if len(ids) != len(batch):
        raise StoreError("an id comes twice in one batch")
    embeddings = embeddings_bytes([record.embedding for record in batch])
    return [
        encode_record(record, embedding=embedding)
        for record, embedding in zip(batch, embeddings, strict=True)
    ]


def check_update(old: Record, new: Record) -> None:
    """Raises StoreError unless `new` may take the row of `old`."""
    # The vector index holds the old embedding under the row and is not told of updates.
    same_embedding = embedding_bytes(old.embedding) == embedding_bytes(new.embedding)
    old_identity = (old.id, old.sha256, old.fingerprint)
    new_identity = (new.id, new.sha256, new.fingerprint)
    if old_identity != new_identity or not same_embedding:
        raise StoreError(
            f"an update of {old.id} may not change its id, content, model or embedding"
        )


def decode_record(data: bytes) -> tuple[Record, bool]:
    """The record, its picture left None, and whether a picture is kept. Raises RecordDamaged."""
    body = _verify(data, RECORD_MAGIC, (1, VERSION), _HEADER.size)
    version = version_of(body)
    (
        _,
        _,
        flags,
        *identity_lengths,
        token_count,
        token_dim,
        embedding_size,
        width_px,
        height_px,
        created_at_ms,
        token_bytes,
        metadata_length,
    ) = _HEADER.unpack_from(body)
    embedding_length = embedding_byte_count(embedding_size, version)
    lengths = [
        _SHA256_BYTES,
        *identity_lengths,
        token_bytes,
        embedding_length,
        metadata_length,
    ]
    parts = _split(body[_HEADER.size :], lengths)
    sha256, id_, fingerprint, codec, tokens, embedding, metadata = parts
    packed = flags & _PACKED_FINGERPRINT
    try:
        record = Record(
            id=id_.decode() or sha256.hex()[:ID_HEX_DIGITS],
            sha256=sha256.hex(),
            fingerprint=fingerprint.hex() if packed else fingerprint.decode(),
            codec=codec.decode(),
            token_count=token_count,
            token_dim=token_dim,
            tokens=tokens,
            embedding=_decode_embedding(embedding, version),
            width_px=width_px,
            height_px=height_px,
            created_at_ms=created_at_ms,
            metadata=json.loads(metadata),
        )
    except ValueError as error:
        raise RecordDamaged(
            "a record with a right checksum holds wrong text"
        ) from error
    return record, bool(flags & _HAS_PICTURE)


def decode_row(row: int, id_: str, data: bytes | None) -> tuple[Record, bool]:
    """As `decode_record`, of the bytes that a store has in a row under an id.

    Raises RecordDamaged, which names both.
    """
    try:
        record, has_picture = decode_record(data or b"")
    except RecordDamaged as error:
        raise RecordDamaged(f"{error} (row {row})", row=row, id=id_) from error
    # A right checksum does not prove the right place: damage may swap whole records.
    if record.id != id_:
        raise RecordDamaged(
            f"row {row} holds the record of another image", row=row, id=id_
        )
    return record, has_picture


def set_picture_flag(data: bytes, has_picture: bool) -> bytes:
    """The bytes of a whole record with its picture flag set or cleared."""
    # Not decoded and encoded again: a repair must not turn a record of version 1 into another.
    flags = data[5] & ~_HAS_PICTURE
    if has_picture:
        flags |= _HAS_PICTURE
    body = bytearray(data[:-CHECKSUM_BYTES])
    body[5] = flags
    return _seal(bytes(body))


def encode_picture(id: str, picture: Picture) -> bytes:
    """The bytes of the picture that belongs to the record `id`. Raises StoreError."""
    # With the id inside, the picture of one record can never be served as that of another.
    texts = [id.encode(), picture.media_type.encode()]
    lengths = [*map(len, texts), len(picture.data)]
    try:
        header = _PICTURE_HEADER.pack(PICTURE_MAGIC, PICTURE_VERSION, 0, *lengths)
    except struct.error as error:
        raise StoreError(
            f"the picture of {id[:64]!r} cannot be written: {error}"
        ) from error
    return _seal(b"".join([header, *texts, picture.data]))


def decode_picture(id: str, data: bytes) -> Picture:
    """The picture of the record `id`. Raises RecordDamaged."""
    body = _verify(data, PICTURE_MAGIC, (PICTURE_VERSION,), _PICTURE_HEADER.size)
    _, _, _, *lengths = _PICTURE_HEADER.unpack_from(body)
    owner, media_type, picture = _split(body[_PICTURE_HEADER.size :], lengths)
    if owner != id.encode():
        raise RecordDamaged("a picture belongs to another record", id=id)
    return Picture(media_type=media_type.decode(), data=picture)


def _sha256_bytes(sha256: str) -> bytes:
    data = bytes.fromhex(sha256)
    if len(data) != _SHA256_BYTES:
        raise ValueError("sha256 must be 64 hex digits")
    return data


def _pack_fingerprint(fingerprint: str) -> tuple[bytes, int]:
    """A fingerprint's bytes and its flag: packed if it is lower-case hex, else as UTF-8."""
    try:
        packed = bytes.fromhex(fingerprint)
    except ValueError:
        return fingerprint.encode(), 0
    # `fromhex` accepts capitals and spaces as well, which `hex` would not give back.
    if packed.hex() != fingerprint:
        return fingerprint.encode(), 0
    return packed, _PACKED_FINGERPRINT


def _decode_embedding(data: bytes, version: int) -> Floats:
    if version == 1:
        halves = np.frombuffer(data, dtype="<f2")
        return halves.astype(np.float32)
    scale = np.array(_SCALE.unpack_from(data), dtype=np.float32)
    codes = np.frombuffer(data, dtype=np.int8, offset=_SCALE.size)
    (embedding,) = from_int8(codes[np.newaxis], scale)
    return np.asarray(embedding)


def _seal(body: bytes) -> bytes:
    return body + checksum(body, CHECKSUM_BYTES)


def _verify(
    data: bytes, magic: bytes, versions: Sequence[int], header_bytes: int
) -> bytes:
    """The bytes before the checksum, once checksum, magic and version are right."""
    if len(data) < header_bytes + CHECKSUM_BYTES:
        raise RecordDamaged(f"a record of {len(data)} bytes is cut short")
    body = data[:-CHECKSUM_BYTES]
    if checksum(body, CHECKSUM_BYTES) != data[-CHECKSUM_BYTES:]:
        raise RecordDamaged("the checksum of a record does not match its bytes")
    if body[:4] != magic or body[4] not in versions:
        raise RecordDamaged(f"not a record of version {versions[-1]} or before")
    return body


def _split(body: bytes, lengths: Sequence[int]) -> list[bytes]:
    # A slice beyond the end is silently short; the sum is what finds lengths that lie.
    if sum(lengths) != len(body):
        raise RecordDamaged("the lengths in a record do not add up")
    parts = []
    start = 0
    for length in lengths:
        parts.append(body[start : start + length])
        start += length
    return parts
