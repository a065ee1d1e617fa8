"""What a library finds in its folder when it is opened: locks, snapshots, models, codec states."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from index.errors import (
    CodecStateMissing,
    StoreBusy,
    StoreClosed,
    UnknownEngine,
    WrongFingerprint,
)
from index.store.sqlite import FILE_NAME
from tests.index.codecs.test_scalar import random_tokens, trained_state
from tests.index.libraries import (
    assert_found,
    counts,
    created,
    open_here,
    opened,
    query_of,
    read,
    read_tokens,
    snapshots,
    top,
)
from tests.index.samples import (
    OTHER_FINGERPRINT,
    make_id,
    make_image,
    make_images,
    unit_vectors,
)


@pytest.mark.parametrize("index", ["auto", "numpy"])
def test_everything_is_there_after_a_reopening(tmp_path: Path, index: str) -> None:
    queries = unit_vectors(5, 3)
    with opened(tmp_path, index=index) as library:
        library.put(make_images(range(20)))
        library.delete([make_id(7)])
        before = library.search(queries, 10)
    with opened(tmp_path, index=index) as library:
        after = library.search(queries, 10)
        for hits, hits_before in zip(after, before, strict=True):
            scores = {hit.id: hit.score for hit in hits}
            assert scores == {hit.id: hit.score for hit in hits_before}
        assert library.stats().index_vectors == 19


def test_the_index_catches_up_with_what_came_after_its_snapshot(tmp_path: Path) -> None:
    with opened(tmp_path) as library:
        library.put(make_images(range(10)))
    with opened(tmp_path) as library:
        (old,) = snapshots(tmp_path)
        old_bytes = old.read_bytes()
        library.put(make_images(range(10, 15)))
        library.delete([make_id(0)])
    (new,) = snapshots(tmp_path)
    new.unlink()
    old.write_bytes(old_bytes)
    with opened(tmp_path) as library:
        assert library.stats().index_vectors == 14
        assert top(library, 0) != [make_id(0)]
        assert_found(library, range(1, 15))


def test_a_damaged_snapshot_is_rebuilt(tmp_path: Path) -> None:
    with opened(tmp_path) as library:
        library.put(make_images(range(10)))
    (snapshot,) = snapshots(tmp_path)
    whole = snapshot.read_bytes()
    snapshot.write_bytes(whole[:-1])
    with opened(tmp_path) as library:
        assert_found(library, range(10))
    assert len(snapshots(tmp_path)) == 1


def test_a_snapshot_from_the_future_of_a_restored_store_is_not_used(
    tmp_path: Path,
) -> None:
    """Rows 2.. of the snapshot mean other images than rows 2.. of the older store will.

    There are so many that a search does not fetch them all and put them right by reranking.
    """
    folder = tmp_path / "a"
    older_store = tmp_path / "older"
    with opened(folder) as library:
        library.put([make_image(0)])
    shutil.copy(folder / FILE_NAME, older_store)
    with opened(folder) as library:
        library.put(make_images(range(1, 60)))
    shutil.copy(older_store, folder / FILE_NAME)
    with opened(folder) as library:
        library.put(make_images(range(100, 159)))
        # As a crash leaves it: without a snapshot of the new rows.
        shutil.copytree(folder, tmp_path / "b")
    with opened(tmp_path / "b") as library:
        assert_found(library, range(100, 159))


def test_the_index_is_saved_while_it_grows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("index.vectors.snapshot.SAVE_AFTER_CHANGES", 10)
    with opened(tmp_path) as library:
        library.put(make_images(range(9)))
        assert snapshots(tmp_path) == []
        library.put([make_image(9)])
        assert len(snapshots(tmp_path)) == 1
        library.put(make_images(range(10, 21)))
        (snapshot,) = snapshots(tmp_path)
        assert snapshot.name.endswith("-21.snapshot")


def test_a_small_index_is_not_kept_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("index.vectors.snapshot.SAVE_FROM_VECTORS", 3)
    with opened(tmp_path) as library:
        library.put(make_images([0, 1]))
    assert snapshots(tmp_path) == []
    with opened(tmp_path) as library:
        assert_found(library, [0])
        library.put([make_image(2)])
    assert len(snapshots(tmp_path)) == 1


@pytest.mark.parametrize(("former", "current"), [("faiss", "auto"), ("exact", "numpy")])
def test_a_snapshot_under_a_former_engine_name_is_used_and_replaced(
    tmp_path: Path, former: str, current: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path, index=current) as library:
        library.put(make_images(range(10)))
    (snapshot,) = snapshots(tmp_path)
    old_name = snapshot.name.replace(f"-{current}-", f"-{former}-")
    snapshot.rename(tmp_path / old_name)
    # Nothing is read from the store: every vector comes from the snapshot.
    monkeypatch.setattr("index.derived_index.DerivedIndex._add_rows", None)
    with opened(tmp_path, index=former) as library:
        assert_found(library, range(10))
        assert [path.name for path in snapshots(tmp_path)] == [old_name]
        library.delete([make_id(0)])
    (snapshot,) = snapshots(tmp_path)
    assert f"-{current}-" in snapshot.name


def test_another_model_sees_only_its_own(tmp_path: Path) -> None:
    with opened(tmp_path) as library:
        library.put(make_images(range(4)))
    with opened(tmp_path, fingerprint=OTHER_FINGERPRINT) as library:
        assert library.search(query_of(0), 4) == [[]]
        assert library.find([make_image(0).sha256]) == [None]
        assert read(library, 0).fingerprint != OTHER_FINGERPRINT
        (record,) = library.page(id_prefix=make_id(0)).records
        assert record.id == make_id(0)
        with pytest.raises(WrongFingerprint):
            library.tokens([make_id(0)])
        results = library.put([make_image(0, fingerprint=OTHER_FINGERPRINT)])
        assert created(results) == [True]
        assert_found(library, [0])
        assert len(read_tokens(library, 0)) > 0
        assert library.stats().images == 4
        assert library.stats().index_vectors == 1
        assert library.delete([make_id(1)]) == [True]
    with opened(tmp_path) as library:
        assert library.stats().index_vectors == 2
        assert make_id(0) not in top(library, 0, 4)


def test_a_trained_codec_is_kept_with_the_data(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    state = tmp_path / "pq4.faiss"
    state.write_bytes(trained_state("PQ4x4np"))
    shape = {"token_shape": (3, 16)}
    tokens = random_tokens(0, 3, 16)
    with opened(folder, codec="pq4", codec_state=state, **shape) as library:
        (result,) = library.put([make_image(0, tokens=tokens)])
        assert result.record.codec.startswith("pq4@")
        expected = read_tokens(library, 0)
    state.unlink()
    with opened(folder, **shape) as library:
        assert np.array_equal(read_tokens(library, 0), expected)
        (result,) = library.put([make_image(1, tokens=tokens)])
        assert result.record.codec == "sq8"
    shutil.rmtree(folder / "codecs")
    with opened(folder, **shape) as library:
        assert_found(library, [0])
        with pytest.raises(CodecStateMissing):
            library.tokens([make_id(0)])
        # The image can still be shown, and its metadata changed.
        changed = library.set_metadata(make_id(0), {"seen": True})
        assert changed is not None
        assert library.words(changed) is None


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"codec": "zip"}, CodecStateMissing),
        ({"store": "paper"}, UnknownEngine),
        ({"index": "paper"}, UnknownEngine),
    ],
)
def test_a_wrong_name_leaves_no_lock(
    tmp_path: Path, changes: dict[str, str], error: type[Exception]
) -> None:
    with pytest.raises(error):
        open_here(tmp_path, **changes)
    open_here(tmp_path).close()


def test_a_folder_is_opened_once(tmp_path: Path) -> None:
    with opened(tmp_path), pytest.raises(StoreBusy):
        open_here(tmp_path)


def test_a_closed_library_says_so(tmp_path: Path) -> None:
    library = open_here(tmp_path)
    library.put([make_image(0)])
    assert counts(library) == {1}
    library.close()
    library.close()
    calls = (
        lambda: library.get([make_id(0)]),
        lambda: library.put([make_image(1)]),
        lambda: top(library, 0),
    )
    for call in calls:
        with pytest.raises(StoreClosed):
            call()
