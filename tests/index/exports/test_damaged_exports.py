"""Exports that are cut off, damaged or of another kind, and exports of a damaged library."""

from __future__ import annotations

import json
import shutil
import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from index.errors import ExportDamaged
from index.exports.reader import Export, import_records
from index.exports.shards import ShardWriter, read_shard
from index.exports.writer import MANIFEST, ExportProgress, export_libraries
from index.manifest import body_checksum
from index.registry import StorePlace
from index.store.sqlite import FILE_NAME
from tests.index.exports.exporting import exported, fill, imported, read_all
from tests.index.libraries import opened, page_ids, read
from tests.index.samples import make_id, make_ids, make_image, make_record


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at % len(data)] ^= 1
    path.write_bytes(bytes(data))


def test_an_export_that_is_cut_off_is_none(
    export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path / "data") as library:
        library.put([make_image(10)])
    progress = export_libraries(
        StorePlace(tmp_path / "data", "sqlite"), tmp_path / "cut", originals=False
    )
    next(progress)
    progress.close()
    assert not (tmp_path / "cut").exists()
    assert not (tmp_path / "cut.unfinished").exists()
    # Of a process that was killed, the folder under its other name stays.
    (export / MANIFEST).unlink()
    with pytest.raises(ExportDamaged, match="cut off"):
        Export(export)
    # And it is in nobody's way.
    shutil.move(export, tmp_path / "cut.unfinished")
    assert exported(tmp_path / "data", tmp_path / "cut").exported == 11


def test_a_damaged_shard_is_named_and_the_others_are_read(
    export: Path, tmp_path: Path
) -> None:
    flip(export / "images-00001.tar", 5000)
    (export / "images-00002.tar").unlink()
    read_export = Export(export)
    outcomes: list[str] = []
    with opened(tmp_path / "other") as target:
        target.put([make_image(20)])
        for shard in read_export.libraries[0].shards:
            try:
                for batch in import_records(target, read_export.records(shard)):
                    outcomes.append(str(batch.created))
            except ExportDamaged as error:
                outcomes.append(str(error))
        assert outcomes == [
            "4",
            "images-00001.tar in the export is damaged",
            "images-00002.tar is missing in the export",
        ]
        assert page_ids(target) == make_ids([20, *range(4)])


@settings(
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(file=st.integers(0, 3), at=st.integers(0, 2**20))
def test_no_damage_gets_into_a_library(
    export: Path, tmp_path: Path, file: int, at: int
) -> None:
    path = sorted(export.iterdir())[file]
    flip(path, at)
    try:
        with pytest.raises(ExportDamaged):
            read_all(export)
    finally:
        flip(path, at)


@pytest.mark.parametrize(
    "change",
    [
        {"format": "other"},
        {"version": 2},
        {"models": None},
        {"libraries": [{"collection": None, "codecs": ["../x.npz"], "shards": []}]},
        {
            "libraries": [
                {
                    "collection": None,
                    "codecs": [],
                    "shards": [{"file": "collections/../x.tar", "images": 1}],
                }
            ]
        },
    ],
    ids=str,
)
def test_a_manifest_of_another_kind_is_refused(
    export: Path, change: dict[str, Any]
) -> None:
    manifest = export / MANIFEST
    body = {**json.loads(manifest.read_bytes()), **change}
    del body["blake2b"]
    manifest.write_text(json.dumps({**body, "blake2b": body_checksum(body)}))
    with pytest.raises(ExportDamaged):
        Export(export)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"nonsense", b"\xff"])
def test_what_is_no_manifest_is_refused(export: Path, content: bytes) -> None:
    (export / MANIFEST).write_bytes(content)
    with pytest.raises(ExportDamaged):
        Export(export)


def test_damage_in_the_store_is_passed_over_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = fill(tmp_path / "data", range(5))
    with closing(sqlite3.connect(data / FILE_NAME)) as connection, connection:
        connection.execute("UPDATE images SET record = zeroblob(9) WHERE row = 2")
        connection.execute("UPDATE pictures SET picture = zeroblob(9) WHERE row = 4")
    assert exported(data, tmp_path / "export") == ExportProgress(4, 2, 5)
    assert f"image {make_id(1)} is not exported" in caplog.text
    assert f"image {make_id(3)} is exported without its picture" in caplog.text
    with opened(tmp_path / "other") as target:
        assert imported(Export(tmp_path / "export"), target) == 4
        assert read(target, 3).picture is None


def test_a_shard_that_lacks_a_picture_is_damaged(tmp_path: Path) -> None:
    shard = ShardWriter(tmp_path / "whole.tar")
    shard.add(make_record(0))
    shard.close()
    with (
        tarfile.open(tmp_path / "whole.tar") as whole,
        tarfile.open(tmp_path / "less.tar", "w") as less,
    ):
        for member in whole:
            if member.name.endswith(".record"):
                less.addfile(member, whole.extractfile(member))
    assert len(list(read_shard(tmp_path / "whole.tar"))) == 1
    with pytest.raises(ExportDamaged, match="lacks a picture"):
        list(read_shard(tmp_path / "less.tar"))
