"""Bytes on disk stay readable: an earlier version's are read, and written again the same."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from index.codecs.scalar import SELF_CONTAINED
from index.exports.reader import Export
from index.model_info import read_model_info
from index.ports import Picture
from index.store.record_format import decode_picture, decode_record
from index.store.sqlite import SqliteStore
from index.vectors.arithmetic import round_to_int8
from index.vectors.numpy_index import NumpyIndex
from tests.golden.write_golden import (
    FOLDER,
    GOLDEN_MAKER,
    files,
    golden_codes,
    golden_mixture,
    golden_record,
    golden_tokens,
    golden_vectors,
)
from tests.index.samples import EMBEDDING_SIZE, FINGERPRINT, make_id, same

WRITTEN = files()


@pytest.mark.parametrize("name", WRITTEN)
def test_the_present_code_writes_the_golden_bytes(name: str) -> None:
    assert WRITTEN[name] == (FOLDER / name).read_bytes()


def encoded_images(name: str) -> tuple[bytes, bytes]:
    """The two images in the golden file of a codec."""
    data = (FOLDER / f"codec-{name}.bin").read_bytes()
    half = len(data) // 2
    return data[:half], data[half:]


def assert_close_to_first_image(tokens: np.ndarray) -> None:
    expected = golden_tokens()[0]
    errors = np.square(tokens - expected)
    assert errors.mean() < 0.5 * np.square(expected).mean()


@pytest.mark.parametrize(
    ("name", "step"), [("fp16", 0.0), ("sq8", 2.5 / 254), ("sq4", 2.5 / 14)]
)
def test_golden_tokens_are_read(name: str, step: float) -> None:
    codec = SELF_CONTAINED[name]()
    for image, data in zip(golden_tokens(), encoded_images(name), strict=True):
        errors = codec.decode(data, 3, 8) - image
        assert np.abs(errors).max() <= step / 2 + 1e-6


@pytest.mark.parametrize("version", [1, 2])
def test_golden_record_is_read(version: int) -> None:
    data = (FOLDER / f"record-v{version}.bin").read_bytes()
    record, has_picture = decode_record(data)
    expected = golden_record(1)
    if version > 1:
        (rounded,) = round_to_int8(expected.embedding[None])
        expected = replace(expected, embedding=rounded)
    assert same(record, expected)
    assert not has_picture


def test_golden_picture_is_read() -> None:
    picture = decode_picture("an id", (FOLDER / "picture-v1.bin").read_bytes())
    assert picture == Picture("image/webp", b"some bytes")


def test_golden_maker_is_read(tmp_path: Path) -> None:
    path = tmp_path / "0123abcd.json"
    shutil.copy(FOLDER / "maker-v1.json", path)
    assert read_model_info(path) == GOLDEN_MAKER


def test_golden_snapshot_is_read() -> None:
    index = NumpyIndex(EMBEDDING_SIZE)
    index.load(FOLDER / "snapshot-v1.bin")
    assert index.rows().tolist() == [3, 5]
    _, rows = index.search(golden_vectors(), 1)
    assert rows.tolist() == [[3], [5]]


def test_golden_store_is_read_and_goes_on(tmp_path: Path) -> None:
    shutil.copytree(FOLDER / "store-v2", tmp_path / "store")
    store = SqliteStore(tmp_path / "store")
    try:
        assert [row for row, _ in store.scan()] == [1, 3]
        records = [
            item[1]
            for item in store.get_many([make_id(1), make_id(3)], with_picture=True)
        ]
        assert same(records[0], golden_record(1))
        assert same(records[1], golden_record(3), with_picture=True)
        assert store.put([golden_record(0)]) == [4]
    finally:
        store.close()


def test_golden_export_is_read() -> None:
    export = Export(FOLDER / "export-v1")
    assert [(model.fingerprint, model.images) for model in export.models] == [
        (FINGERPRINT, 2)
    ]
    (library,) = export.libraries
    assert library.collection is None
    assert library.codecs == []
    records = [record for shard in library.shards for record in export.records(shard)]
    for record, number in zip(records, (1, 3), strict=True):
        expected = golden_record(number)
        (rounded,) = round_to_int8(expected.embedding[None])
        expected = replace(expected, embedding=rounded)
        assert same(record, expected, with_picture=True)


def test_golden_mixture_is_read() -> None:
    data, _ = encoded_images("mix4")
    codec = golden_mixture()
    assert codec.name == "mix4@ae1b02ec"
    assert_close_to_first_image(codec.decode(data, 3, 8))


@pytest.mark.parametrize(
    ("kind", "name"),
    [("pq2", "pq2@0ce41ca1"), ("opq2", "opq2@781a5e0b"), ("rq2", "rq2@e3eb0c3b")],
    ids=["pq2", "opq2", "rq2"],
)
def test_golden_codes_of_faiss_are_read(kind: str, name: str) -> None:
    data, _ = encoded_images(kind)
    codec = golden_codes(kind)
    assert codec.name == name
    assert_close_to_first_image(codec.decode(data, 3, 8))
