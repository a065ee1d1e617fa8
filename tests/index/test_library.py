"""The library's promises, one by one."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from index.codecs.registry import CodecRegistry
from index.errors import (
    CodecStateMissing,
    InvalidCursor,
    InvalidMetadata,
    InvalidTokens,
    InvalidVector,
    RecordDamaged,
    StoreBusy,
    StoreClosed,
    UnknownEngine,
    WrongFingerprint,
)
from index.filters import parse_filter
from index.library import Library, open_library
from index.store.memory import MemoryStore
from index.store.sqlite import FILE_NAME
from tests.fakes.failing_index import FailingIndex
from tests.index.codecs.test_scalar import trained_state
from tests.index.samples import (
    EMBEDDING_SIZE,
    FINGERPRINT,
    OTHER_FINGERPRINT,
    TOKEN_SHAPE,
    kept_embedding,
    make_id,
    make_image,
    unit_vectors,
)
from tests.threads import run_threads


def open_here(folder: Path, **changes: Any) -> Library:
    values = {
        "fingerprint": FINGERPRINT,
        "token_shape": TOKEN_SHAPE,
        "embedding_size": EMBEDDING_SIZE,
    }
    return open_library(folder, **{**values, **changes})


ENGINES = [("sqlite", "auto"), ("sqlite", "numpy"), ("memory", "numpy")]


@pytest.fixture(params=ENGINES, ids="-".join)
def library(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Library]:
    store, index = request.param
    library = open_here(tmp_path, store=store, index=index)
    yield library
    library.close()


@pytest.fixture
def disk_library(tmp_path: Path) -> Iterator[Library]:
    library = open_here(tmp_path)
    yield library
    library.close()


def top(library: Library, number: int, k: int = 1) -> list[str]:
    """Ids found by the embedding of image `number`."""
    return [hit.id for hit in library.search(make_image(number).embedding[None], k)[0]]


def test_what_was_put_is_found_read_and_decoded(library: Library) -> None:
    images = [make_image(n) for n in range(20)]
    stored = library.put(images)
    assert [s.id for s in stored] == [make_id(n) for n in range(20)]
    assert all(s.created for s in stored)
    for number, image in enumerate(images):
        (hit,) = library.search(image.embedding[None], 1)[0]
        assert hit.id == make_id(number)
        assert hit.score == pytest.approx(1, abs=1e-3)
        (record,) = library.get([make_id(number)], with_picture=True)
        assert record is not None
        assert (record.sha256, record.metadata, record.picture) == (
            image.sha256,
            image.metadata,
            image.picture,
        )
        assert (record.width_px, record.height_px, record.codec) == (
            image.width_px,
            image.height_px,
            "sq8",
        )
        (tokens,) = library.tokens([make_id(number)])
        assert tokens is not None
        assert np.abs(tokens - image.tokens).max() < 0.02


def test_scores_are_cosines_best_first(library: Library) -> None:
    library.put([make_image(n) for n in range(50)])
    queries = unit_vectors(99, 4) * np.array([[1], [10], [0.001], [1]], dtype=np.float32)
    for query, hits in zip(queries, library.search(queries, 12), strict=True):
        direction = query / np.linalg.norm(query)
        expected = sorted(
            ((kept_embedding(n) @ direction, make_id(n)) for n in range(50)), reverse=True
        )[:12]
        assert [hit.id for hit in hits] == [id_ for _, id_ in expected]
        assert [hit.score for hit in hits] == pytest.approx(
            [score for score, _ in expected], abs=1e-5
        )


def test_a_length_other_than_one_changes_no_score(library: Library) -> None:
    image = make_image(0)
    library.put([make_image(0, embedding=image.embedding * 1000)])
    assert library.search(image.embedding[None] * 7, 1)[0][0].score == pytest.approx(1, abs=1e-3)


def test_an_empty_library_finds_nothing(library: Library) -> None:
    assert library.search(unit_vectors(0, 2), 3) == [[], []]
    assert library.search(unit_vectors(0, 0), 3) == []
    assert library.page().records == []
    assert library.put([]) == []
    assert library.find([]) == []


def test_known_content_is_stored_once(library: Library) -> None:
    first = library.put([make_image(0), make_image(1), make_image(0)])
    assert [s.created for s in first] == [True, True, False]
    assert first[0].record is first[2].record
    again = library.put([make_image(1, metadata={"other": 1}), make_image(2)])
    assert [s.created for s in again] == [False, True]
    assert again[0].record.metadata == make_image(1).metadata
    assert library.stats().images == library.stats().index_vectors == 3


def test_find_knows_contents_not_names(library: Library) -> None:
    library.put([make_image(0)])
    known, unknown, look_alike = library.find(
        [make_image(0).sha256, make_image(1).sha256, make_image(0).sha256[:32] + "0" * 32]
    )
    assert known is not None
    assert known.id == make_id(0)
    assert unknown is None
    assert look_alike is None


def test_a_deleted_image_is_gone_at_once_and_may_come_again(library: Library) -> None:
    library.put([make_image(n) for n in range(5)])
    assert library.delete([make_id(2), "unknown", make_id(2)]) == [True, False, False]
    assert make_id(2) not in top(library, 2, 5)
    assert library.get([make_id(2)]) == [None]
    assert library.tokens([make_id(2)]) == [None]
    assert library.find([make_image(2).sha256]) == [None]
    assert library.put([make_image(2)])[0].created
    assert top(library, 2) == [make_id(2)]


def test_a_listing_pages_through_everything_while_images_come_and_go(library: Library) -> None:
    library.put([make_image(n) for n in range(10)])
    first = library.page(limit=4)
    assert [r.id for r in first.records] == [make_id(n) for n in range(4)]
    library.delete([make_id(3), make_id(5)])
    library.put([make_image(10)])
    second = library.page(cursor=first.next_cursor, limit=4)
    assert [r.id for r in second.records] == [make_id(n) for n in (4, 6, 7, 8)]
    last = library.page(cursor=second.next_cursor, limit=4)
    assert [r.id for r in last.records] == [make_id(n) for n in (9, 10)]
    assert last.next_cursor is None
    assert library.page(limit=9).next_cursor is None


@pytest.mark.parametrize(
    "cursor", ["", "x", "é", "AAAA", "A" * 18, "AQAAAAAAAAAAffHoNGB", "../../etc", "=" * 1000]
)
def test_a_made_up_cursor_is_refused(library: Library, cursor: str) -> None:
    with pytest.raises(InvalidCursor):
        library.page(cursor=cursor)


def test_bad_input_stores_nothing(library: Library) -> None:
    nan = np.full(EMBEDDING_SIZE, np.nan, dtype=np.float32)
    bad_tokens = np.full(TOKEN_SHAPE, np.inf, dtype=np.float32)
    for changes, error in (
        ({"fingerprint": OTHER_FINGERPRINT}, WrongFingerprint),
        ({"tokens": make_image(1).tokens[:, :-1]}, InvalidTokens),
        ({"tokens": bad_tokens}, InvalidTokens),
        ({"embedding": nan}, InvalidVector),
        ({"embedding": nan[:-1]}, InvalidVector),
        ({"embedding": np.zeros(EMBEDDING_SIZE, dtype=np.float32)}, InvalidVector),
        ({"metadata": {"x": float("nan")}}, InvalidMetadata),
        ({"metadata": "text"}, InvalidMetadata),
    ):
        with pytest.raises(error):
            library.put([make_image(0), make_image(1, **changes)])
    with pytest.raises(InvalidVector):
        library.search(nan[None], 1)
    with pytest.raises(InvalidVector):
        library.search(np.zeros((1, EMBEDDING_SIZE), dtype=np.float32), 1)
    with pytest.raises(InvalidVector):
        library.search(unit_vectors(0, 1), 0)
    with pytest.raises(ValueError, match="limit"):
        library.page(limit=0)
    assert library.stats().images == library.stats().index_vectors == 0


@pytest.mark.parametrize("index", ["auto", "numpy"])
def test_everything_is_there_after_a_reopening(tmp_path: Path, index: str) -> None:
    library = open_here(tmp_path, index=index)
    library.put([make_image(n) for n in range(20)])
    library.delete([make_id(7)])
    before = library.search(unit_vectors(5, 3), 10)
    library.close()
    library = open_here(tmp_path, index=index)
    try:
        after = library.search(unit_vectors(5, 3), 10)
        assert [[(h.id, h.score) for h in hits] for hits in after] == [
            [(h.id, h.score) for h in hits] for hits in before
        ]
        assert library.stats().index_vectors == 19
    finally:
        library.close()


def snapshots(folder: Path) -> list[Path]:
    return sorted(folder.glob("vectors-*"))


def test_the_index_catches_up_with_what_came_after_its_snapshot(tmp_path: Path) -> None:
    library = open_here(tmp_path)
    library.put([make_image(n) for n in range(10)])
    library.close()
    library = open_here(tmp_path)
    (old,) = snapshots(tmp_path)
    kept = old.read_bytes()
    library.put([make_image(n) for n in range(10, 15)])
    library.delete([make_id(0)])
    library.close()
    (new,) = snapshots(tmp_path)
    new.unlink()
    old.write_bytes(kept)
    library = open_here(tmp_path)
    try:
        assert library.stats().index_vectors == 14
        assert top(library, 0) != [make_id(0)]
        assert all(top(library, n) == [make_id(n)] for n in range(1, 15))
    finally:
        library.close()


def test_a_damaged_snapshot_is_rebuilt(tmp_path: Path) -> None:
    library = open_here(tmp_path)
    library.put([make_image(n) for n in range(10)])
    library.close()
    (snapshot,) = snapshots(tmp_path)
    snapshot.write_bytes(snapshot.read_bytes()[:-1])
    library = open_here(tmp_path)
    assert all(top(library, n) == [make_id(n)] for n in range(10))
    library.close()
    assert len(snapshots(tmp_path)) == 1


def test_a_snapshot_from_the_future_of_a_restored_store_is_not_used(tmp_path: Path) -> None:
    """Rows 2.. of the snapshot mean other images than rows 2.. of the older store will.

    So many that a search does not fetch them all and put them right by reranking.
    """
    library = open_here(tmp_path / "a")
    library.put([make_image(0)])
    library.close()
    shutil.copy(tmp_path / "a" / FILE_NAME, tmp_path / "older")
    library = open_here(tmp_path / "a")
    library.put([make_image(n) for n in range(1, 60)])
    library.close()
    shutil.copy(tmp_path / "older", tmp_path / "a" / FILE_NAME)
    library = open_here(tmp_path / "a")
    library.put([make_image(n) for n in range(100, 159)])
    shutil.copytree(
        tmp_path / "a", tmp_path / "b"
    )  # as a crash leaves it: without a snapshot of the new rows
    library.close()
    library = open_here(tmp_path / "b")
    try:
        assert all(top(library, n) == [make_id(n)] for n in range(100, 159))
    finally:
        library.close()


def test_another_model_sees_only_its_own(tmp_path: Path) -> None:
    library = open_here(tmp_path)
    library.put([make_image(n) for n in range(4)])
    library.close()
    library = open_here(tmp_path, fingerprint=OTHER_FINGERPRINT)
    try:
        assert library.search(make_image(0).embedding[None], 4) == [[]]
        assert library.find([make_image(0).sha256]) == [None]
        assert library.get([make_id(0)])[0] is not None
        with pytest.raises(WrongFingerprint):
            library.tokens([make_id(0)])
        stored = library.put([make_image(0, fingerprint=OTHER_FINGERPRINT)])
        assert stored[0].created
        assert top(library, 0) == [make_id(0)]
        assert library.tokens([make_id(0)])[0] is not None
        assert (library.stats().images, library.stats().index_vectors) == (4, 1)
        assert library.delete([make_id(1)]) == [True]
    finally:
        library.close()
    library = open_here(tmp_path)
    try:
        assert library.stats().index_vectors == 2
        assert make_id(0) not in top(library, 0, 4)
    finally:
        library.close()


def test_a_trained_codec_is_kept_with_the_data(tmp_path: Path) -> None:
    state = tmp_path / "pq4.faiss"
    state.write_bytes(trained_state("PQ4x4np"))
    shape = {"token_shape": (3, 16)}
    image = make_image(0, tokens=np.random.default_rng(0).normal(size=(3, 16)).astype(np.float32))
    library = open_here(tmp_path / "data", codec="pq4", codec_state=state, **shape)
    name = library.put([image])[0].record.codec
    expected = library.tokens([make_id(0)])[0]
    library.close()
    state.unlink()
    assert name.startswith("pq4@")
    library = open_here(tmp_path / "data", **shape)
    try:
        assert np.array_equal(library.tokens([make_id(0)])[0], expected)
        assert library.put([make_image(1, tokens=image.tokens)])[0].record.codec == "sq8"
    finally:
        library.close()
    shutil.rmtree(tmp_path / "data" / "codecs")
    library = open_here(tmp_path / "data", **shape)
    try:
        assert top(library, 0) == [make_id(0)]
        with pytest.raises(CodecStateMissing):
            library.tokens([make_id(0)])
        # It can still be shown, and what is said of it changed.
        assert library.set_metadata(make_id(0), {"seen": True}) is not None
        (record,) = library.get([make_id(0)])
        assert record is not None
        assert library.words(record) is None
    finally:
        library.close()


def test_a_wrong_name_leaves_no_lock(tmp_path: Path) -> None:
    for changes, error in (
        ({"codec": "zip"}, CodecStateMissing),
        ({"store": "paper"}, UnknownEngine),
        ({"index": "paper"}, UnknownEngine),
    ):
        with pytest.raises(error):
            open_here(tmp_path, **changes)
    open_here(tmp_path).close()


def test_one_folder_one_library(disk_library: Library, tmp_path: Path) -> None:
    with pytest.raises(StoreBusy):
        open_here(tmp_path)


def test_a_closed_library_says_so(tmp_path: Path) -> None:
    library = open_here(tmp_path)
    library.put([make_image(0)])
    library.close()
    library.close()
    for call in (
        lambda: library.get([make_id(0)]),
        lambda: library.put([make_image(1)]),
        lambda: top(library, 0),
    ):
        with pytest.raises(StoreClosed):
            call()


def damage(folder: Path, number: int) -> None:
    connection = sqlite3.connect(folder / FILE_NAME)
    with connection:
        connection.execute(
            "UPDATE images SET record = CAST(X'00' || substr(record, 2) AS BLOB) WHERE id = ?",
            (make_id(number),),
        )
    connection.close()


def test_a_damaged_record_is_never_served_and_a_new_put_heals_it(
    disk_library: Library, tmp_path: Path
) -> None:
    library = disk_library
    library.put([make_image(n) for n in range(5)])
    damage(tmp_path, 2)
    with pytest.raises(RecordDamaged):
        library.get([make_id(2)])
    with pytest.raises(RecordDamaged):
        library.tokens([make_id(2)])
    assert sorted(top(library, 2, 5)) == sorted(make_id(n) for n in (0, 1, 3, 4))
    assert [r.id for r in library.page().records] == [make_id(n) for n in (0, 1, 3, 4)]
    assert [s.created for s in library.put([make_image(1), make_image(2)])] == [False, True]
    assert top(library, 2) == [make_id(2)]
    assert library.stats().images == library.stats().index_vectors == 5


def test_a_damaged_record_does_not_stop_a_rebuild(tmp_path: Path) -> None:
    library = open_here(tmp_path)
    library.put([make_image(n) for n in range(5)])
    library.close()
    damage(tmp_path, 2)
    for snapshot in snapshots(tmp_path):
        snapshot.unlink()
    library = open_here(tmp_path)
    try:
        assert library.stats().index_vectors == 4
        assert top(library, 3) == [make_id(3)]
    finally:
        library.close()


def test_an_index_that_failed_follows_before_the_next_call(tmp_path: Path) -> None:
    index = FailingIndex(EMBEDDING_SIZE)
    library = Library(
        store=MemoryStore(),
        index=index,
        codecs=CodecRegistry(tmp_path),
        snapshots=None,
        fingerprint=FINGERPRINT,
        token_shape=TOKEN_SHAPE,
        embedding_size=EMBEDDING_SIZE,
        codec="fp16",
    )
    library.put([make_image(0), make_image(1)])
    index.fail = True
    with pytest.raises(MemoryError):
        library.put([make_image(2)])
    assert top(library, 2) == [make_id(2)]
    assert library.put([make_image(2)])[0].created is False
    index.fail = True
    with pytest.raises(MemoryError):
        library.delete([make_id(0)])
    assert make_id(0) not in top(library, 0, 3)
    library.close()


@pytest.mark.parametrize(("store", "index"), ENGINES)
def test_sixty_four_threads_lose_no_update_and_see_no_ghost(
    tmp_path: Path, store: str, index: str
) -> None:
    library = open_here(tmp_path, store=store, index=index)
    shared = [make_image(n) for n in range(1_000_000, 1_000_008)]
    created: list[str] = []
    kept: list[int] = []

    def work(thread: int) -> None:
        """Its own images follow a model exactly; the shared ones all threads put at once."""
        random = np.random.default_rng(thread)
        mine: set[int] = set()
        created.extend(s.id for s in library.put(shared) if s.created)
        for _ in range(8):
            number = thread * 10 + int(random.integers(5))
            if number in mine and random.random() < 0.5:
                assert library.delete([make_id(number)]) == [True]
                mine.discard(number)
                assert library.get([make_id(number)]) == [None]
                assert make_id(number) not in top(library, number, 5)
            else:
                (stored,) = library.put([make_image(number)])
                assert stored.created == (number not in mine)
                mine.add(number)
                assert top(library, number) == [make_id(number)]
        kept.extend(mine)

    run_threads(64, work)
    assert sorted(created) == sorted(image.sha256[:32] for image in shared)
    expected = {make_id(n) for n in kept} | set(created)
    assert {r.id for r in library.page(limit=10_000).records} == expected
    assert library.stats().images == library.stats().index_vectors == len(expected)
    library.close()


def test_the_index_is_saved_while_it_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("index.vectors.snapshot.SAVE_AFTER_CHANGES", 10)
    library = open_here(tmp_path)
    library.put([make_image(n) for n in range(9)])
    assert snapshots(tmp_path) == []
    library.put([make_image(9)])
    assert len(snapshots(tmp_path)) == 1
    library.put([make_image(n) for n in range(10, 21)])
    assert [path.name.split("-")[-1] for path in snapshots(tmp_path)] == ["21.snapshot"]
    library.close()


def test_search_and_list_keep_to_a_filter(library: Library) -> None:
    library.put([make_image(n) for n in range(40)])
    odd = parse_filter({"tags": "odd", "number": {"lt": 30}})
    (hits,) = library.search(make_image(0).embedding[None], 50, where=odd)
    assert sorted(hit.id for hit in hits) == sorted(make_id(n) for n in range(1, 30, 2))
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert library.search(
        make_image(0).embedding[None], 5, where=parse_filter({"tags": "neither"})
    ) == [[]]
    page = library.page(limit=10, where=odd)
    rest = library.page(limit=10, cursor=page.next_cursor, where=odd)
    assert [r.id for r in page.records + rest.records] == [make_id(n) for n in range(1, 30, 2)]
    assert rest.next_cursor is None


def test_metadata_can_be_changed(library: Library) -> None:
    library.put([make_image(n) for n in range(3)])
    changed = library.set_metadata(make_id(0), {"tags": ["new"]})
    assert changed is not None
    assert library.set_metadata("unknown", {}) is None
    (record,) = library.get([make_id(0)], with_picture=True)
    assert record is not None
    assert (record.metadata, record.picture) == ({"tags": ["new"]}, make_image(0).picture)
    assert [r.id for r in library.page(where=parse_filter({"tags": "new"})).records] == [make_id(0)]
    assert top(library, 0) == [make_id(0)]
    with pytest.raises(InvalidMetadata):
        library.set_metadata(make_id(0), {"x": float("nan")})


def test_recoding_changes_the_codec_and_nothing_else(tmp_path: Path) -> None:
    library = open_here(tmp_path, codec="fp16")
    library.put([make_image(n) for n in range(150)])
    library.close()
    library = open_here(tmp_path, codec="sq8")
    try:
        library.put([make_image(200)])
        steps = list(library.recode())
        assert [(s.processed, s.total, s.recoded) for s in steps] == [
            (64, 151, 64),
            (128, 151, 128),
            (151, 151, 150),
        ]
        assert [s.recoded for s in library.recode()] == [0, 0, 0]
        for number in (0, 77, 149, 200):
            (record,) = library.get([make_id(number)], with_picture=True)
            image = make_image(number)
            assert record is not None
            assert (record.codec, record.metadata, record.picture) == (
                "sq8",
                image.metadata,
                image.picture,
            )
            assert top(library, number) == [make_id(number)]
            (tokens,) = library.tokens([make_id(number)])
            assert tokens is not None
            assert np.abs(tokens - image.tokens).max() < 0.02
        assert library.stats().token_bytes == 151 * TOKEN_SHAPE[0] * (8 + TOKEN_SHAPE[1])
    finally:
        library.close()


def test_recoding_can_be_stopped_while_images_come_and_go(tmp_path: Path) -> None:
    library = open_here(tmp_path, codec="fp16")
    library.put([make_image(n) for n in range(150)])
    library.close()
    library = open_here(tmp_path, codec="sq4")
    try:
        steps = library.recode()
        next(steps)
        library.delete([make_id(n) for n in range(60, 70)])
        library.set_metadata(make_id(100), {"new": 1})
        steps.close()
        assert list(library.recode())[-1].recoded == 150 - 64 - 6
        assert {r.codec for r in library.page(limit=200).records} == {"sq4"}
        assert library.get([make_id(100)])[0].metadata == {"new": 1}
    finally:
        library.close()


def test_a_small_index_is_not_kept_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("index.vectors.snapshot.SAVE_FROM_VECTORS", 3)
    library = open_here(tmp_path)
    library.put([make_image(0), make_image(1)])
    library.close()
    assert snapshots(tmp_path) == []
    library = open_here(tmp_path)
    assert top(library, 0) == [make_id(0)]
    library.put([make_image(2)])
    library.close()
    assert len(snapshots(tmp_path)) == 1
