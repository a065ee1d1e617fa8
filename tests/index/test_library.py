"""The library's promises while it is open: put, find, search, page, delete, change, recode."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from index.codecs.registry import CodecRegistry
from index.errors import (
    InvalidCursor,
    InvalidMetadata,
    InvalidTokens,
    InvalidVector,
    RecordDamaged,
    WrongFingerprint,
)
from index.filters import parse_filter
from index.library import Library
from index.store.memory import MemoryStore
from index.store.sqlite import FILE_NAME
from tests.fakes.failing_index import FailingIndex
from tests.index.libraries import (
    assert_found,
    assert_kept,
    counts,
    created,
    hit_ids,
    nearest,
    open_here,
    opened,
    page_ids,
    query_of,
    read,
    record_ids,
    snapshots,
    top,
)
from tests.index.samples import (
    EMBEDDING_SIZE,
    FINGERPRINT,
    OTHER_FINGERPRINT,
    TOKEN_SHAPE,
    kept_embedding,
    make_id,
    make_ids,
    make_image,
    make_images,
    unit_vectors,
)
from tests.threads import run_threads

ENGINES = [("sqlite", "auto"), ("sqlite", "numpy"), ("memory", "numpy")]
NO_DIRECTION = np.zeros(EMBEDDING_SIZE, dtype=np.float32)
NOT_A_NUMBER = np.full(EMBEDDING_SIZE, np.nan, dtype=np.float32)


@pytest.fixture(params=ENGINES, ids="-".join)
def library(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Library]:
    store, index = request.param
    with opened(tmp_path, store=store, index=index) as library:
        yield library


def test_what_was_put_is_found_read_and_decoded(library: Library) -> None:
    results = library.put(make_images(range(20)))
    assert [result.id for result in results] == make_ids(range(20))
    assert all(created(results))
    for number in range(20):
        (hit,) = nearest(library, query_of(number), 1)
        assert hit.id == make_id(number)
        assert hit.score == pytest.approx(1, abs=1e-3)
        assert read(library, number).codec == "sq8"
        assert_kept(library, number)


def test_scores_are_cosines_best_first(library: Library) -> None:
    library.put(make_images(range(50)))
    directions = unit_vectors(99, 4)
    lengths = np.array([1, 10, 0.001, 1], dtype=np.float32)
    queries = directions * lengths[:, None]
    hits_of_queries = library.search(queries, 12)
    for direction, hits in zip(directions, hits_of_queries, strict=True):
        cosines = {make_id(n): kept_embedding(n) @ direction for n in range(50)}
        best = sorted(cosines, key=lambda id_: cosines[id_], reverse=True)[:12]
        assert hit_ids(hits) == best
        for hit in hits:
            assert hit.score == pytest.approx(cosines[hit.id], abs=1e-5)


def test_equal_images_come_oldest_first_with_one_score_whatever_the_limit(
    tmp_path: Path,
) -> None:
    size = 256  # wide enough that the order in which a sum is made shows in it
    embeddings = unit_vectors(0, 5, size)
    images = [make_image(n, embedding=embeddings[n % 5]) for n in range(60)]
    queries = unit_vectors(1, 3, size)
    best = np.argsort(-(queries[0] @ embeddings.T))
    expected = [make_id(n) for first in best for n in range(first, 60, 5)]
    with opened(tmp_path, embedding_size=size) as library:
        library.put(images)
        for k in (1, 2, 3, 4, 5, 7, 11, 13, 59, 60):
            alone = library.search(queries[:1], k)[0]
            among_others = library.search(queries, k)[0]
            assert hit_ids(alone) == hit_ids(among_others) == expected[:k]
            scores = {hit.score for hit in alone}
            assert len(scores) == -(-k // 12)
            assert all(score == round(score, 6) for score in scores)


def test_a_length_other_than_one_changes_no_score(library: Library) -> None:
    embedding = make_image(0).embedding
    library.put([make_image(0, embedding=1000 * embedding)])
    (hit,) = nearest(library, 7 * query_of(0), 1)
    assert hit.score == pytest.approx(1, abs=1e-3)


def test_an_empty_library_finds_nothing(library: Library) -> None:
    two_queries = unit_vectors(0, 2)
    assert library.search(two_queries, 3) == [[], []]
    assert library.search(two_queries[:0], 3) == []
    assert library.page().records == []
    assert library.put([]) == []
    assert library.find([]) == []


def test_known_content_is_stored_once(library: Library) -> None:
    first = library.put(make_images([0, 1, 0]))
    assert created(first) == [True, True, False]
    assert first[0].record is first[2].record
    image_again = make_image(1, metadata={"other": 1})
    again = library.put([image_again, make_image(2)])
    assert created(again) == [False, True]
    assert again[0].record.metadata == make_image(1).metadata
    assert counts(library) == {3}


def test_find_knows_contents_not_names(library: Library) -> None:
    library.put([make_image(0)])
    sha256 = make_image(0).sha256
    same_id = sha256[:32] + "0" * 32
    known, unknown, look_alike = library.find([sha256, make_image(1).sha256, same_id])
    assert known is not None
    assert known.id == make_id(0)
    assert unknown is None
    assert look_alike is None


def test_a_deleted_image_is_gone_at_once_and_may_come_again(library: Library) -> None:
    library.put(make_images(range(5)))
    deleted = library.delete([make_id(2), "unknown", make_id(2)])
    assert deleted == [True, False, False]
    assert make_id(2) not in top(library, 2, 5)
    assert library.get([make_id(2)]) == [None]
    assert library.tokens([make_id(2)]) == [None]
    assert library.find([make_image(2).sha256]) == [None]
    (result,) = library.put([make_image(2)])
    assert result.created
    assert_found(library, [2])


def test_pages_go_through_everything_while_images_come_and_go(library: Library) -> None:
    library.put(make_images(range(10)))
    first = library.page(limit=4)
    assert record_ids(first.records) == make_ids(range(4))
    library.delete(make_ids([3, 5]))
    library.put([make_image(10)])
    second = library.page(cursor=first.next_cursor, limit=4)
    assert record_ids(second.records) == make_ids([4, 6, 7, 8])
    last = library.page(cursor=second.next_cursor, limit=4)
    assert record_ids(last.records) == make_ids([9, 10])
    assert last.next_cursor is None
    assert library.page(limit=9).next_cursor is None


def test_pages_can_begin_with_the_newest(library: Library) -> None:
    library.put(make_images(range(10)))
    first = library.page(limit=4, newest_first=True)
    assert record_ids(first.records) == make_ids([9, 8, 7, 6])
    library.delete(make_ids([6, 4]))
    library.put([make_image(10)])
    second = library.page(cursor=first.next_cursor, limit=4, newest_first=True)
    assert record_ids(second.records) == make_ids([5, 3, 2, 1])
    odd = parse_filter({"tags": "odd"})
    page = library.page(cursor=first.next_cursor, limit=2, newest_first=True, where=odd)
    assert record_ids(page.records) == make_ids([5, 3])
    rest = library.page(cursor=page.next_cursor, newest_first=True, where=odd)
    assert record_ids(rest.records) == make_ids([1])
    assert rest.next_cursor is None


def test_a_cursor_is_good_for_one_order(library: Library) -> None:
    library.put(make_images(range(3)))
    for newest_first in (False, True):
        page = library.page(limit=1, newest_first=newest_first)
        with pytest.raises(InvalidCursor, match="other order"):
            library.page(cursor=page.next_cursor, newest_first=not newest_first)


def test_pages_go_by_a_text_in_the_metadata(library: Library) -> None:
    images = []
    for number, day in enumerate(["b", "c", "a", None, "b", "é"]):
        images.append(replace(make_image(number), metadata={"day": day}))
    library.put(images)
    first = library.page_by_text("day", limit=2)
    assert record_ids(first.records) == make_ids([5, 1])
    library.delete(make_ids([1, 0]))
    library.put([replace(make_image(7), metadata={"day": "d"})])
    second = library.page_by_text("day", limit=2, cursor=first.next_cursor)
    assert record_ids(second.records) == make_ids([4, 2])
    assert second.next_cursor is None
    with pytest.raises(InvalidCursor, match="other order"):
        library.page_by_text("day", cursor=library.page(limit=1).next_cursor)
    with pytest.raises(InvalidCursor):
        library.page(cursor=first.next_cursor)


def test_pages_keep_to_the_beginning_of_the_id(library: Library) -> None:
    library.put(make_images(range(40)))
    prefix = make_id(0)[:1]
    expected = [id_ for id_ in make_ids(range(40)) if id_.startswith(prefix)]
    assert 1 < len(expected) < 40
    first = library.page(id_prefix=prefix, limit=1)
    rest = library.page(id_prefix=prefix, cursor=first.next_cursor)
    assert record_ids([*first.records, *rest.records]) == expected
    newest = library.page(id_prefix=prefix, newest_first=True)
    assert record_ids(newest.records) == expected[::-1]


@pytest.mark.parametrize(
    "cursor",
    ["", "x", "é", "AAAA", "A" * 18, "AQAAAAAAAAAAffHoNGB", "../../etc", "=" * 1000],
)
def test_a_made_up_cursor_is_refused(library: Library, cursor: str) -> None:
    with pytest.raises(InvalidCursor):
        library.page(cursor=cursor)
    with pytest.raises(InvalidCursor):
        library.page_by_text("day", cursor=cursor)


BAD_IMAGES = [
    ({"fingerprint": OTHER_FINGERPRINT}, WrongFingerprint),
    ({"tokens": np.zeros((4, 11), dtype=np.float32)}, InvalidTokens),
    ({"tokens": np.full(TOKEN_SHAPE, np.inf, dtype=np.float32)}, InvalidTokens),
    ({"embedding": NOT_A_NUMBER}, InvalidVector),
    ({"embedding": NOT_A_NUMBER[:-1]}, InvalidVector),
    ({"embedding": NO_DIRECTION}, InvalidVector),
    ({"metadata": {"x": float("nan")}}, InvalidMetadata),
    ({"metadata": "text"}, InvalidMetadata),
]


@pytest.mark.parametrize(("changes", "error"), BAD_IMAGES)
def test_a_batch_with_a_bad_image_stores_nothing(
    library: Library, changes: dict[str, object], error: type[Exception]
) -> None:
    bad_image = make_image(1, **changes)
    with pytest.raises(error):
        library.put([make_image(0), bad_image])
    assert counts(library) == {0}


def test_a_bad_query_is_refused(library: Library) -> None:
    searches = [(NOT_A_NUMBER[None], 1), (NO_DIRECTION[None], 1), (query_of(0), 0)]
    for query, k in searches:
        with pytest.raises(InvalidVector):
            library.search(query, k)
    with pytest.raises(ValueError, match="limit"):
        library.page(limit=0)


def damage(folder: Path, number: int) -> None:
    """Overwrites the first byte of a record."""
    connection = sqlite3.connect(folder / FILE_NAME)
    with connection:
        connection.execute(
            "UPDATE images SET record = CAST(X'00' || substr(record, 2) AS BLOB) WHERE id = ?",
            (make_id(number),),
        )
    connection.close()


def test_a_damaged_record_is_never_served_and_a_new_put_heals_it(
    tmp_path: Path,
) -> None:
    with opened(tmp_path) as library:
        library.put(make_images(range(5)))
        damage(tmp_path, 2)
        with pytest.raises(RecordDamaged):
            library.get([make_id(2)])
        with pytest.raises(RecordDamaged):
            library.tokens([make_id(2)])
        intact = make_ids([0, 1, 3, 4])
        assert set(top(library, 2, 5)) == set(intact)
        assert page_ids(library) == intact
        results = library.put(make_images([1, 2]))
        assert created(results) == [False, True]
        assert_found(library, [2])
        assert counts(library) == {5}


def test_a_damaged_record_does_not_stop_a_rebuild(tmp_path: Path) -> None:
    with opened(tmp_path) as library:
        library.put(make_images(range(5)))
    damage(tmp_path, 2)
    for snapshot in snapshots(tmp_path):
        snapshot.unlink()
    with opened(tmp_path) as library:
        assert library.stats().index_vectors == 4
        assert_found(library, [3])


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
    library.put(make_images([0, 1]))
    index.fail = True
    with pytest.raises(MemoryError):
        library.put([make_image(2)])
    assert_found(library, [2])
    again = library.put([make_image(2)])
    assert created(again) == [False]
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
    shared = make_images(range(1_000_000, 1_000_008))
    created_ids: list[str] = []
    kept: list[int] = []

    def work(thread: int) -> None:
        """Its own images follow a model exactly; the shared ones all threads put at once."""
        random = np.random.default_rng(thread)
        mine: set[int] = set()
        results = library.put(shared)
        created_ids.extend(result.id for result in results if result.created)
        for _ in range(8):
            number = thread * 10 + int(random.integers(5))
            if number in mine and random.random() < 0.5:
                assert library.delete([make_id(number)]) == [True]
                mine.discard(number)
                assert library.get([make_id(number)]) == [None]
                assert make_id(number) not in top(library, number, 5)
            else:
                (result,) = library.put([make_image(number)])
                assert result.created == (number not in mine)
                mine.add(number)
                assert_found(library, [number])
        kept.extend(mine)

    run_threads(64, work)
    # Of each shared content, exactly one thread was told that it created it.
    shared_ids = [image.sha256[:32] for image in shared]
    assert sorted(created_ids) == sorted(shared_ids)
    expected = make_ids(kept) + shared_ids
    assert sorted(page_ids(library, limit=10_000)) == sorted(expected)
    assert counts(library) == {len(expected)}
    library.close()


def test_search_and_page_keep_to_a_filter(library: Library) -> None:
    library.put(make_images(range(40)))
    odd = parse_filter({"tags": "odd", "number": {"lt": 30}})
    expected = make_ids(range(1, 30, 2))
    hits = nearest(library, query_of(0), 50, odd)
    assert sorted(hit_ids(hits)) == sorted(expected)
    scores = [hit.score for hit in hits]
    assert scores == sorted(scores, reverse=True)
    neither = parse_filter({"tags": "neither"})
    assert nearest(library, query_of(0), 5, neither) == []
    page = library.page(limit=10, where=odd)
    rest = library.page(limit=10, cursor=page.next_cursor, where=odd)
    assert record_ids(page.records + rest.records) == expected
    assert rest.next_cursor is None


def test_metadata_can_be_changed(library: Library) -> None:
    library.put(make_images(range(3)))
    metadata = {"tags": ["new"]}
    changed = library.set_metadata(make_id(0), metadata)
    assert changed is not None
    assert library.set_metadata("unknown", {}) is None
    record = read(library, 0)
    assert record.metadata == metadata
    assert record.picture == make_image(0).picture
    new = parse_filter({"tags": "new"})
    assert page_ids(library, where=new) == [make_id(0)]
    assert_found(library, [0])
    with pytest.raises(InvalidMetadata):
        library.set_metadata(make_id(0), {"x": float("nan")})


def test_recoding_changes_the_codec_and_nothing_else(tmp_path: Path) -> None:
    with opened(tmp_path, codec="fp16") as library:
        library.put(make_images(range(150)))
    with opened(tmp_path, codec="sq8") as library:
        library.put([make_image(200)])
        steps = list(library.recode())
        assert [step.processed for step in steps] == [64, 128, 151]
        assert [step.recoded for step in steps] == [64, 128, 150]
        assert {step.total for step in steps} == {151}
        # Again: nothing is left to recode.
        assert {step.recoded for step in library.recode()} == {0}
        for number in (0, 77, 149, 200):
            assert read(library, number).codec == "sq8"
            assert_kept(library, number)
            assert_found(library, [number])
        bytes_per_token = 8 + TOKEN_SHAPE[1]
        assert library.stats().token_bytes == 151 * TOKEN_SHAPE[0] * bytes_per_token


def test_recoding_can_be_stopped_while_images_come_and_go(tmp_path: Path) -> None:
    with opened(tmp_path, codec="fp16") as library:
        library.put(make_images(range(150)))
    with opened(tmp_path, codec="sq4") as library:
        steps = library.recode()
        next(steps)
        library.delete(make_ids(range(60, 70)))
        library.set_metadata(make_id(100), {"new": 1})
        steps.close()
        # The first step recoded 64, and six of the ten deleted were not among them.
        *_, last = library.recode()
        assert last.recoded == 150 - 64 - 6
        records = library.page(limit=200).records
        assert {record.codec for record in records} == {"sq4"}
        assert read(library, 100).metadata == {"new": 1}
