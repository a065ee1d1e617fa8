"""Libraries that leave one folder as an export and come into another."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from index.data_folder import COLLECTIONS
from index.errors import (
    CodecStateMissing,
    InvalidTarget,
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
from index.exports.writer import MANIFEST
from index.model_info import ModelInfo
from index.ports import Picture
from index.store.sqlite import SqliteStore
from tests.golden.write_golden import golden_codes
from tests.index.exports.exporting import exported, fill, imported
from tests.index.libraries import assert_found, opened, page_ids, read
from tests.index.samples import (
    FINGERPRINT,
    OTHER_FINGERPRINT,
    make_id,
    make_ids,
    make_image,
    make_record,
    make_records,
    same,
)

NOT_OURS = {"fingerprint": OTHER_FINGERPRINT}


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
    with pytest.raises(InvalidTarget, match="exists already"):
        exported(tmp_path / "data", export)
    with pytest.raises(InvalidTarget, match="among the collections"):
        exported(tmp_path / "data", tmp_path / "data" / "collections" / "export")
    with pytest.raises(StoreError, match="there is no library"):
        exported(tmp_path / "nowhere", tmp_path / "export-2")
    assert not (tmp_path / "nowhere").exists()


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
