"""What every token store promises.

The test class of an adapter derives from TokenStoreSuite and says how its store is opened.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from index.errors import InvalidMetadata, StoreClosed, StoreError
from index.filters import parse_filter
from index.ports import Picture, Record, TokenStore
from tests.index.samples import (
    FINGERPRINT,
    OTHER_FINGERPRINT,
    make_id,
    make_ids,
    make_record,
    make_records,
    same,
)
from tests.threads import run_threads

UNKNOWN_ROW = 10**9
NOT_JSON = {"x": float("nan")}


def read(
    store: TokenStore, number: int, *, with_picture: bool = False
) -> tuple[int, Record]:
    """Row and record of image `number`, which must be there."""
    (item,) = store.get_many([make_id(number)], with_picture=with_picture)
    assert item is not None
    return item


def is_stored(store: TokenStore, record: Record) -> bool:
    """Whether the store gives back just this record, picture included."""
    (item,) = store.get_many([record.id], with_picture=True)
    return item is not None and same(item[1], record, with_picture=True)


def scanned_ids(store: TokenStore) -> list[str]:
    return [record.id for _, record in store.scan()]


def scanned_rows(store: TokenStore, **options: Any) -> list[int]:
    return [row for row, _ in store.scan(**options)]


class TokenStoreSuite:
    def open(self, folder: Path) -> TokenStore:
        raise NotImplementedError

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[TokenStore]:
        store = self.open(tmp_path)
        yield store
        store.close()

    def test_gives_back_what_was_put(self, store: TokenStore) -> None:
        records = make_records(range(5))
        rows = store.put(records)
        assert rows == sorted(rows)
        for number, record in enumerate(records):
            row, _ = read(store, number)
            assert row == rows[number]
            assert is_stored(store, record)

    def test_reads_a_picture_only_when_asked(self, store: TokenStore) -> None:
        store.put([make_record(3)])
        assert make_record(3).picture is not None
        _, record = read(store, 3)
        assert record.picture is None
        (item,) = store.scan()
        assert item[1].picture is None

    def test_answers_in_the_order_asked_with_none_for_the_unknown(
        self, store: TokenStore
    ) -> None:
        store.put(make_records(range(3)))
        items = store.get_many([make_id(2), "unknown", make_id(0), make_id(2)])
        ids = [item and item[1].id for item in items]
        assert ids == [make_id(2), None, make_id(0), make_id(2)]

    def test_empty_calls_do_nothing(self, store: TokenStore) -> None:
        assert store.put([]) == []
        assert store.get_many([]) == []
        assert store.get_rows([]) == []
        assert store.delete([]) == []
        assert list(store.scan()) == []
        assert store.last_row() == 0

    def test_stores_all_of_a_batch_or_nothing(self, store: TokenStore) -> None:
        store.put([make_record(0)])
        with pytest.raises(InvalidMetadata):
            store.put([make_record(1), make_record(2, metadata=NOT_JSON)])
        with pytest.raises(StoreError):
            store.put([make_record(1), make_record(2, width_px=-1)])
        with pytest.raises(StoreError):
            store.put([make_record(1), make_record(1)])
        assert scanned_ids(store) == [make_id(0)]

    def test_a_record_of_the_same_id_takes_the_place_of_the_old_under_a_new_row(
        self, store: TokenStore
    ) -> None:
        (old_row,) = store.put([make_record(0)])
        picture = Picture("image/png", b"new")
        newer = make_record(0, metadata={"new": True}, picture=picture)
        (new_row,) = store.put([newer])
        assert new_row > old_row
        assert store.get_rows([old_row]) == [None]
        assert is_stored(store, newer)
        assert store.sizes().images == 1

    def test_never_assigns_a_row_twice(self, store: TokenStore) -> None:
        rows = store.put(make_records([0, 1]))
        store.delete(make_ids([0, 1]))
        assert store.last_row() == max(rows)
        rows += store.put([make_record(1)])
        store.put([make_record(1)])
        rows.append(store.last_row())
        assert len(set(rows)) == len(rows)

    def test_deletes_and_tells_the_rows(self, store: TokenStore) -> None:
        rows = store.put(make_records(range(3)))
        assert store.delete([make_id(1), "unknown", make_id(1)]) == [
            rows[1],
            None,
            None,
        ]
        assert store.get_many([make_id(1)]) == [None]
        assert store.get_rows([rows[1]]) == [None]
        assert store.delete([make_id(1)]) == [None]

    def test_scans_in_row_order_from_a_row_on(self, store: TokenStore) -> None:
        rows = store.put(make_records(range(600)))
        store.delete([make_id(300)])
        del rows[300]
        assert scanned_rows(store) == rows
        assert scanned_rows(store, after_row=rows[10]) == rows[11:]
        assert scanned_rows(store, after_row=rows[10], limit=280) == rows[11:291]
        assert scanned_rows(store, limit=0) == []

    def test_scans_back_from_a_row_on(self, store: TokenStore) -> None:
        rows = store.put(make_records(range(600)))
        store.delete([make_id(300)])
        del rows[300]
        backwards = rows[::-1]
        assert [row for row, _ in store.scan_back()] == backwards
        some = [row for row, _ in store.scan_back(before_row=rows[500])]
        assert some == rows[:500][::-1]
        assert list(store.scan_back(before_row=rows[0])) == []
        row, record = next(store.scan_back())
        assert (row, record.id) == (rows[-1], make_id(599))

    def test_a_scan_goes_on_while_records_come_and_go(self, store: TokenStore) -> None:
        rows = store.put(make_records(range(600)))
        scan = store.scan()
        first_row, _ = next(scan)
        assert first_row == rows[0]
        store.delete([make_id(1)])
        store.put([make_record(600)])
        later_rows = [row for row, _ in scan]
        assert later_rows == sorted(later_rows)
        assert set(rows[2:]) <= set(later_rows)

    def test_reads_by_row(self, store: TokenStore) -> None:
        rows = store.put(make_records(range(3)))
        records = store.get_rows([rows[2], UNKNOWN_ROW, rows[0]])
        ids = [record and record.id for record in records]
        assert ids == [make_id(2), None, make_id(0)]

    def test_knows_the_rows_of_each_model(self, store: TokenStore) -> None:
        other = make_record(1, fingerprint=OTHER_FINGERPRINT)
        rows = store.put([make_record(0), other, make_record(2)])
        assert store.rows(FINGERPRINT).tolist() == [rows[0], rows[2]]
        assert store.rows(OTHER_FINGERPRINT).tolist() == [rows[1]]
        assert store.rows("unknown").tolist() == []
        assert store.rows(FINGERPRINT).dtype == np.int64

    def test_sizes_follow_every_write(self, store: TokenStore) -> None:
        records = make_records(range(4))
        store.put(records)
        sizes = store.sizes()
        assert sizes.images == 4
        assert sizes.token_bytes == sum(len(record.tokens) for record in records)
        assert sizes.embedding_bytes == sum(
            4 + record.embedding.size for record in records
        )
        pictures = [record.picture for record in records if record.picture]
        assert sizes.picture_bytes >= sum(len(picture.data) for picture in pictures)
        store.put([make_record(0, picture=None)])
        store.delete(make_ids(range(4)))
        sizes = store.sizes()
        assert (sizes.images, sizes.token_bytes, sizes.embedding_bytes) == (0, 0, 0)
        assert (sizes.record_bytes, sizes.picture_bytes) == (0, 0)

    def test_keeps_any_json_metadata(self, store: TokenStore) -> None:
        metadata = {
            "ключ": [1, 2.5, None, True, {"深": "値\u0000'\""}],
            "": {},
            "big": 2**80,
            "dup": ["a", "a"],
        }
        store.put([make_record(0, metadata=metadata)])
        _, record = read(store, 0)
        assert record.metadata == metadata

    def test_updates_in_place_and_keeps_the_picture(self, store: TokenStore) -> None:
        rows = store.put(make_records([0, 1, 3]))
        store.delete([make_id(1)])
        values = {"metadata": {"new": [1, 2]}, "codec": "sq8", "tokens": b"short"}
        changed = make_record(3, **values, picture=None)
        updates = [
            (rows[2], changed),
            (rows[1], make_record(1)),
            (UNKNOWN_ROW, make_record(5)),
        ]
        assert store.update(updates) == [True, False, False]
        row, record = read(store, 3, with_picture=True)
        assert row == rows[2]
        assert record.picture == make_record(3).picture
        assert same(record, changed)
        assert is_stored(store, make_record(0))

    def test_sizes_follow_an_update(self, store: TokenStore) -> None:
        rows = store.put(make_records([0, 3]))
        changed = make_record(3, metadata={"new": [1, 2]}, tokens=b"short")
        store.update([(rows[1], changed)])
        assert store.sizes().token_bytes == len(make_record(0).tokens) + len(b"short")
        store.delete(make_ids([0, 3]))
        sizes = store.sizes()
        assert (sizes.record_bytes, sizes.token_bytes) == (0, 0)

    def test_an_update_may_not_change_what_the_index_knows(
        self, store: TokenStore
    ) -> None:
        rows = store.put(make_records([0, 1]))
        first = make_record(0, metadata={"new": 1})
        wrong_records = [
            make_record(2),
            make_record(1, fingerprint=OTHER_FINGERPRINT),
            make_record(1, embedding=make_record(2).embedding),
            make_record(1, metadata=NOT_JSON),
        ]
        for wrong in wrong_records:
            with pytest.raises((StoreError, InvalidMetadata)):
                store.update([(rows[0], first), (rows[1], wrong)])
        assert is_stored(store, make_record(0))

    def test_filters_by_metadata(self, store: TokenStore) -> None:
        kept: list[dict[str, Any]] = [
            {"tags": ["cat", "dog"], "year": 2020, "gps": {"lat": 1.5}},
            {"tags": ["cat"], "year": 2021.5, "ok": True},
            {"tags": "dog", "year": "2021", "note": "x" * 300},
            {},
        ]
        records = [make_record(n, metadata=metadata) for n, metadata in enumerate(kept)]
        rows = store.put(records)
        store.put([make_record(9, metadata=kept[0], fingerprint=OTHER_FINGERPRINT)])

        def matching(where: dict[str, Any]) -> list[int]:
            matching_rows = store.rows(FINGERPRINT, parse_filter(where))
            return [rows.index(row) for row in matching_rows.tolist()]

        assert matching({}) == [0, 1, 2, 3]
        assert matching({"tags": "cat"}) == [0, 1]
        assert matching({"tags": {"in": ["dog", "bird", 7]}}) == [0, 2]
        assert matching({"tags": {"in": []}}) == []
        assert matching({"tags": "cat", "year": {"gte": 2021}}) == [1]
        assert matching({"year": {"gt": 0}}) == [0, 1]
        assert matching({"year": {"lt": 10**9}}) == [0, 1]
        assert matching({"year": {"lte": "3", "gte": ""}}) == [2]
        assert matching({"year": 2021}) == []
        assert matching({"ok": True}) == [1]
        assert matching({"gps.lat": {"gt": 1, "lt": 2}}) == [0]
        assert matching({"gps": 1.5}) == []
        # One value must pass all comparisons: neither "cat" nor "dog" is both.
        assert matching({"tags": {"gt": "cat", "lt": "dog"}}) == []
        store.update([(rows[3], make_record(3, metadata={"tags": "cat"}))])
        store.delete([make_id(0)])
        assert matching({"tags": "cat"}) == [1, 3]

    def test_orders_rows_by_a_text_in_the_metadata(self, store: TokenStore) -> None:
        dates: list[Any] = ["b", "a", None, 7, "b", ["a", "c"], "", "é"]
        records = [
            make_record(number, metadata={"at": {"day": date}, "odd": number % 2})
            for number, date in enumerate(dates)
        ]
        rows = store.put(records)
        other = make_record(9, metadata={"at": {"day": "z"}})
        store.put([replace(other, fingerprint=OTHER_FINGERPRINT)])

        def ordered(**options: Any) -> list[int]:
            options = {"limit": 9, **options}
            places = store.rows_by_text(FINGERPRINT, "at.day", **options)
            return [rows.index(row) for _, row in places]

        assert ordered() == [7, 5, 4, 0, 1, 6]
        assert ordered(limit=2) == [7, 5]
        assert ordered(before=("c", rows[5])) == [4, 0, 1, 6]
        assert ordered(before=("b", rows[4])) == [0, 1, 6]
        assert ordered(where=parse_filter({"odd": 1})) == [7, 5, 1]
        assert ordered(where=parse_filter({"odd": 1}), before=("b", 0)) == [1]
        store.delete([make_id(5)])
        assert ordered() == [7, 4, 0, 1, 6]

    def test_finds_rows_by_the_beginning_of_the_id(self, store: TokenStore) -> None:
        ids = ["0", "09", "0a", "0a%", "0a_", "0b", "a0a", "é", "éa"]
        records = [
            replace(make_record(number, metadata={"day": id_}), id=id_)
            for number, id_ in enumerate(ids)
        ]
        records[3] = replace(records[3], fingerprint=OTHER_FINGERPRINT)
        rows = store.put(records)

        def beginning(prefix: str, fingerprint: str | None, **options: Any) -> set[str]:
            found = store.rows(fingerprint, id_prefix=prefix, **options)
            assert np.all(np.diff(found) > 0)
            return {ids[rows.index(row)] for row in found.tolist()}

        for prefix in ("", *ids, "0a%_", "A", "0A", "ê", "%", "b"):
            expected = {id_ for id_ in ids if id_.startswith(prefix)}
            assert beginning(prefix, None) == expected
            assert beginning(prefix, FINGERPRINT) == expected - {"0a%"}
            places = store.rows_by_text(FINGERPRINT, "day", id_prefix=prefix, limit=99)
            assert {text for text, _ in places} == expected - {"0a%"}
        assert beginning("0a", None, where=parse_filter({"day": "0a_"})) == {"0a_"}
        store.delete(["0a"])
        assert beginning("0a", None) == {"0a%", "0a_"}

    def test_threads_write_and_read_side_by_side(self, store: TokenStore) -> None:
        def work(thread: int) -> None:
            for number in range(thread * 100, thread * 100 + 10):
                (row,) = store.put([make_record(number)])
                assert is_stored(store, make_record(number))
                if number % 2:
                    assert store.delete([make_id(number)]) == [row]
                    assert store.get_many([make_id(number)]) == [None]

        run_threads(8, work)
        kept: list[int] = []
        for thread in range(8):
            kept += range(thread * 100, thread * 100 + 10, 2)
        assert sorted(scanned_ids(store)) == sorted(make_ids(kept))

    def test_has_an_id_of_its_own(self, store: TokenStore, tmp_path: Path) -> None:
        other = self.open(tmp_path / "other")
        try:
            assert store.store_id
            assert store.store_id != other.store_id
        finally:
            other.close()

    def test_a_closed_store_says_so(self, tmp_path: Path) -> None:
        store = self.open(tmp_path)
        store.put([make_record(0)])
        store.close()
        store.close()
        calls = (
            lambda: store.put([make_record(1)]),
            lambda: store.get_many([make_id(0)]),
            lambda: store.get_rows([1]),
            lambda: store.delete([make_id(0)]),
            lambda: list(store.scan()),
            lambda: list(store.scan_back()),
            lambda: store.rows(FINGERPRINT),
            store.last_row,
            store.sizes,
        )
        for call in calls:
            with pytest.raises(StoreClosed):
                call()


def test_samples_are_told_apart() -> None:
    """Guards the suite's own comparison."""
    record = make_record(0)
    assert same(record, make_record(0), with_picture=True)
    assert not same(record, make_record(0, embedding=record.embedding + 1))
    assert not same(record, make_record(0, picture=None), with_picture=True)
    assert not same(record, None)
