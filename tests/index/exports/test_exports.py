"""Libraries that leave one folder as an export and come into another."""

from __future__ import annotations

import json
import shutil
import sqlite3
import tarfile
from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from index.data_folder import COLLECTIONS
from index.errors import (
    CodecStateMissing,
    ExportDamaged,
    InvalidTokens,
    InvalidVector,
    LibraryError,
    RecordDamaged,
    StoreBusy,
    StoreError,
    WrongFingerprint,
)
from index.exports import writer
from index.exports.reader import Export, import_records
from index.exports.shards import ShardWriter, read_shard
from index.exports.writer import MANIFEST, ExportProgress, export_libraries
from index.library import Library
from index.manifest import body_checksum
from index.model_info import ModelInfo
from index.ports import Picture
from index.registry import StorePlace
from index.store.sqlite import FILE_NAME, SqliteStore
from tests.golden.write_golden import golden_codes
from tests.index.libraries import assert_found, opened, page_ids, read
from tests.index.samples import (
    FINGERPRINT,
    OTHER_FINGERPRINT,
    make_id,
    make_ids,
    make_image,
    make_images,
    make_record,
    make_records,
    same,
)

NOT_OURS = {"fingerprint": OTHER_FINGERPRINT}


def exported(
    data: Path, target: Path, *, originals: bool = False, store: str = "sqlite"
) -> ExportProgress:
    """Exports the libraries of a data folder, or a store elsewhere; where the export ended."""
    place = StorePlace(data, store)
    *_, last = export_libraries(place, target, originals=originals)
    return last


def imported(export: Export, library: Library, collection: str | None = None) -> int:
    """Imports one library of an export; how many images were new."""
    (files,) = [part for part in export.libraries if part.collection == collection]
    for state in export.codec_states(files):
        library.add_codec(state)
    created = 0
    for shard in files.shards:
        for batch in import_records(library, export.records(shard)):
            created += batch.created
    return created


def read_all(folder: Path) -> int:
    """How many records an export has, all of them read."""
    export = Export(folder)
    shards = [shard for library in export.libraries for shard in library.shards]
    return sum(len(list(export.records(shard))) for shard in shards)


def fill(folder: Path, numbers: Iterable[int]) -> Path:
    """A library with these images in the folder."""
    with opened(folder) as library:
        library.put(make_images(numbers))
    return folder


@pytest.fixture
def export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An export of ten images, four in a shard."""
    monkeypatch.setattr(writer, "_SHARD_IMAGES", 4)
    data = fill(tmp_path / "data", range(10))
    assert exported(data, tmp_path / "export") == ExportProgress(10, 0, 10)
    return tmp_path / "export"


def test_a_library_is_the_same_after_a_journey(export: Path, tmp_path: Path) -> None:
    assert sorted(path.name for path in export.iterdir()) == [
        *(f"images-0000{number}.tar" for number in range(3)),
        MANIFEST,
    ]
    with (
        opened(tmp_path / "data") as source,
        opened(tmp_path / "other") as target,
    ):
        assert imported(Export(export), target) == 10
        assert page_ids(target) == page_ids(source)
        assert_found(target, range(10))
        for number in range(10):
            # Tokens, embedding and time too, bit for bit.
            assert same(read(target, number), read(source, number), with_picture=True)


def test_a_second_import_adds_nothing(export: Path, tmp_path: Path) -> None:
    with opened(tmp_path / "other") as target:
        assert imported(Export(export), target) == 10
        target.set_metadata(make_id(1), {"mine": True})
        assert imported(Export(export), target) == 0
        assert read(target, 1).metadata == {"mine": True}
        assert target.stats().images == 10


def test_an_interrupted_import_is_continued(export: Path, tmp_path: Path) -> None:
    first, *_ = Export(export).libraries[0].shards
    with opened(tmp_path / "other") as target:
        for _ in import_records(target, Export(export).records(first)):
            pass
        assert page_ids(target) == make_ids(range(4))
    with opened(tmp_path / "other") as target:
        assert imported(Export(export), target) == 6
        assert page_ids(target) == make_ids(range(10))


def test_collections_and_trained_codecs_are_exported(tmp_path: Path) -> None:
    codec = golden_codes("pq2")
    data = fill(tmp_path / "data", [0])
    for name in ("cats", "dogs"):
        folder = data / COLLECTIONS / name
        fill(folder, [])
        (folder / "codecs").mkdir()
        (folder / "codecs" / f"{codec.name}.faiss").write_bytes(codec.state)
        with closing(SqliteStore(folder)) as store:
            (tokens,) = codec.encode(make_image(1).tokens[None, :3, :8])
            store.put(
                [
                    make_record(
                        1, codec=codec.name, tokens=tokens, token_count=3, token_dim=8
                    )
                ]
            )
    fill(data / COLLECTIONS / "empty", [])
    exported(data, tmp_path / "export")
    export = Export(tmp_path / "export")
    names = [library.collection for library in export.libraries]
    assert names == [None, "cats", "dogs", "empty"]
    # One copy, since the state is the same.
    (state,) = (tmp_path / "export" / "codecs").iterdir()
    assert state.read_bytes() == codec.state
    with opened(tmp_path / "other", token_shape=(4, 8)) as target:
        assert imported(export, target, "dogs") == 1
        assert page_ids(target) == [make_id(1)]
        assert read(target, 1).tokens == tokens
        assert target.tokens([make_id(1)])[0].shape == (3, 8)
    copies = list((tmp_path / "other" / "codecs").iterdir())
    assert [copy.name for copy in copies] == [state.name]


def test_tokens_of_a_codec_that_is_not_here_are_refused(tmp_path: Path) -> None:
    record = make_record(1, codec="pq2@00000000")
    with opened(tmp_path) as library, pytest.raises(CodecStateMissing):
        library.put_records([record])


def test_an_original_is_exported_if_it_is_asked_for(tmp_path: Path) -> None:
    original = replace(make_image(1), picture=Picture("image/png", b"1"))
    with opened(tmp_path / "data") as library:
        library.put([make_image(0), original])
    for asked in (False, True):
        exported(tmp_path / "data", tmp_path / f"export-{asked}", originals=asked)
        with opened(tmp_path / f"other-{asked}") as target:
            imported(Export(tmp_path / f"export-{asked}"), target)
            assert read(target, 0).picture == make_image(0).picture
            assert read(target, 1).picture == (original.picture if asked else None)


def test_a_large_shard_is_ended_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "_SHARD_BYTES", 1)
    exported(fill(tmp_path / "data", range(3)), tmp_path / "export")
    shards = Export(tmp_path / "export").libraries[0].shards
    assert [shard.images for shard in shards] == [1, 1, 1]


def test_a_library_in_use_is_not_exported(tmp_path: Path) -> None:
    with opened(tmp_path / "data"), pytest.raises(StoreBusy):
        exported(tmp_path / "data", tmp_path / "export")
    assert not (tmp_path / "export").exists()


def test_nothing_is_written_over(export: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="exists already"):
        exported(tmp_path / "data", export)
    with pytest.raises(StoreError, match="there is no library"):
        exported(tmp_path / "nowhere", tmp_path / "export-2")
    assert not (tmp_path / "nowhere").exists()


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


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at % len(data)] ^= 1
    path.write_bytes(bytes(data))


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
    deadline=None,
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


def test_images_of_another_model_are_refused(export: Path) -> None:
    Export(export).check_model(FINGERPRINT)
    with pytest.raises(WrongFingerprint, match="nothing was imported") as caught:
        Export(export).check_model(OTHER_FINGERPRINT)
    assert "\n" not in str(caught.value)


def test_the_model_of_an_export_is_named(tmp_path: Path) -> None:
    info = ModelInfo("a model", "adapters")
    with opened(tmp_path / "data", model_info=info) as library:
        library.put([make_image(0)])
    exported(tmp_path / "data", tmp_path / "export")
    with pytest.raises(WrongFingerprint, match="made by a model"):
        Export(tmp_path / "export").check_model(OTHER_FINGERPRINT)


def test_of_two_models_one_is_imported(tmp_path: Path) -> None:
    with closing(SqliteStore(tmp_path / "data")) as store:
        store.put([make_record(0), make_record(1, **NOT_OURS), make_record(2)])
    exported(tmp_path / "data", tmp_path / "export")
    export = Export(tmp_path / "export")
    export.check_model(FINGERPRINT)
    export.check_model(OTHER_FINGERPRINT)
    with opened(tmp_path / "other") as target:
        assert imported(export, target) == 2
        assert page_ids(target) == make_ids([0, 2])
        with pytest.raises(WrongFingerprint):
            target.put_records([make_record(3), make_record(1, **NOT_OURS)])
        assert target.stats().images == 2


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


def test_records_replace_what_is_less(tmp_path: Path) -> None:
    less = replace(make_image(1), tokens=make_image(1).tokens[:2], metadata={"a": 1})
    with closing(SqliteStore(tmp_path)) as store:
        store.put([make_record(2, **NOT_OURS)])
    with opened(tmp_path) as library:
        library.put([less])
        twice = [make_record(1), make_record(2), make_record(2)]
        assert library.put_records(twice) == [True, True, False]
        assert library.put_records(make_records([1, 2])) == [False, False]
        assert read(library, 1).token_count == 4
        assert read(library, 1).metadata == {"a": 1}
        assert_found(library, [1, 2])
        assert library.stats().images == 2


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"id": "0" * 32}, RecordDamaged),
        ({"tokens": b"short"}, InvalidTokens),
        ({"token_count": 2, "token_dim": 24}, InvalidTokens),
        ({"embedding": make_record(0).embedding[:8]}, InvalidVector),
        ({"codec": "../mix16@0"}, LibraryError),
    ],
    ids=str,
)
def test_a_record_that_does_not_fit_stores_nothing(
    tmp_path: Path, change: dict[str, Any], error: type[Exception]
) -> None:
    with opened(tmp_path) as library:
        with pytest.raises(error):
            library.put_records([make_record(0), make_record(1, **change)])
        assert library.stats().images == 0


def test_a_codec_under_another_name_is_not_kept(tmp_path: Path) -> None:
    state = tmp_path / "pq2@00000000.faiss"
    state.write_bytes(golden_codes("pq2").state)
    with opened(tmp_path / "data") as library, pytest.raises(LibraryError):
        library.add_codec(state)
    assert not (tmp_path / "data" / "codecs").exists()


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
