"""Record and picture bytes: whole round trips, and no damage unseen."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from index.errors import InvalidMetadata, InvalidVector, RecordDamaged, StoreError
from index.ports import Picture, Record
from index.store.record_format import (
    decode_picture,
    decode_record,
    encode_picture,
    encode_record,
    set_picture_flag,
)
from index.vectors.arithmetic import round_to_int8
from tests.index.samples import make_record, same

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | text,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3)
    ),
    max_leaves=8,
)
records = st.builds(
    Record,
    id=text.filter(bool),
    sha256=st.binary().map(lambda data: hashlib.sha256(data).hexdigest()),
    fingerprint=text,
    codec=text,
    token_count=st.integers(0, 2**32 - 1),
    token_dim=st.integers(0, 2**32 - 1),
    tokens=st.binary(max_size=100),
    embedding=arrays(
        np.float16, st.integers(1, 9), elements=st.floats(-1, 1, width=16)
    ).map(lambda e: round_to_int8(e.astype(np.float32)[None])[0]),
    width_px=st.integers(0, 2**32 - 1),
    height_px=st.integers(0, 2**32 - 1),
    created_at_ms=st.integers(-(2**63), 2**63 - 1),
    metadata=st.dictionaries(text, json_values, max_size=4),
)


@given(records)
def test_a_record_comes_back_as_it_was(record: Record) -> None:
    back, has_picture = decode_record(encode_record(record))
    assert same(back, record)
    assert not has_picture


@pytest.mark.parametrize(
    "fingerprint", ["", "ab", "AB", "a b", "0g", "ab" * 32, "é", "a"]
)
def test_a_fingerprint_comes_back_as_it_was(fingerprint: str) -> None:
    record = make_record(0, fingerprint=fingerprint)
    assert decode_record(encode_record(record))[0].fingerprint == fingerprint


def test_what_follows_from_the_hash_is_not_written() -> None:
    short = encode_record(make_record(0))
    assert len(encode_record(make_record(0, id="x" * 32))) == len(short) + 32
    assert len(encode_record(make_record(0, fingerprint="x" * 64))) == len(short) + 32


@pytest.mark.parametrize("has_picture", [True, False])
def test_the_flag_of_a_picture_can_be_set(has_picture: bool) -> None:
    data = set_picture_flag(encode_record(make_record(0)), has_picture)
    record, flag = decode_record(data)
    assert flag == has_picture
    assert same(record, make_record(0))


@given(text, text, st.binary(max_size=50))
def test_a_picture_comes_back_as_it_was(id_: str, media_type: str, data: bytes) -> None:
    picture = Picture(media_type, data)
    assert decode_picture(id_, encode_picture(id_, picture)) == picture


def every_damage(data: bytes) -> Iterator[bytes]:
    """Each single bit flipped, and the data cut at each length."""
    for position in range(len(data)):
        for bit in range(8):
            damaged = bytearray(data)
            damaged[position] ^= 1 << bit
            yield bytes(damaged)
        yield data[:position]
    yield data + b"\0"


@pytest.mark.parametrize("number", [0, 1])
def test_every_flipped_bit_of_a_record_is_found(number: int) -> None:
    for damaged in every_damage(encode_record(make_record(number))):
        with pytest.raises(RecordDamaged):
            decode_record(damaged)


def test_every_flipped_bit_of_a_picture_is_found() -> None:
    data = encode_picture("an id", Picture("image/webp", b"some bytes"))
    for damaged in every_damage(data):
        with pytest.raises(RecordDamaged):
            decode_picture("an id", damaged)
    with pytest.raises(RecordDamaged):
        decode_picture("another id", data)


def test_a_record_is_no_picture_and_a_picture_no_record() -> None:
    with pytest.raises(RecordDamaged):
        decode_picture("x", encode_record(make_record(0)))
    with pytest.raises(RecordDamaged):
        decode_record(encode_picture("x", Picture("image/webp", b"y" * 200)))


def test_refuses_what_it_cannot_hold() -> None:
    circle: dict[str, object] = {}
    circle["self"] = circle
    for metadata in (
        {"x": float("nan")},
        {"x": float("inf")},
        {"x": b""},
        {"x": "\ud800"},
        ["a"],
        None,
        circle,
    ):
        with pytest.raises(InvalidMetadata):
            encode_record(make_record(0, metadata=metadata))
    for embedding in (
        np.zeros((1, 2)),
        np.zeros(0),
        np.array([np.nan]),
        np.array([1e6]),
    ):
        with pytest.raises(InvalidVector):
            encode_record(make_record(0, embedding=embedding))
    for change in (
        {"sha256": "not hex"},
        {"sha256": "ab"},
        {"id": ""},
        {"width_px": -1},
        {"height_px": 2**32},
        {"created_at_ms": 2**63},
        {"id": "x" * 70000},
        {"codec": "\ud800"},
    ):
        with pytest.raises(StoreError):
            encode_record(make_record(0, **change))
