"""What every token store promises. An adapter's test class derives from this one and says how it is
opened.
"""

from __future__ import annotations

from collections.abc import Iterator
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


class TokenStoreSuite:
    def open(self, folder: Path) -> TokenStore:
        raise NotImplementedError

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[TokenStore]:
        store = self.open(tmp_path)
        yield store
        store.close()

    def test_gives_back_what_it_was_given(self, store: TokenStore) -> None:
        records = make_records(range(5))
        rows = store.put(records)
        assert rows == sorted(rows)
        found = store.get_many([r.id for r in records], with_picture=True)
        assert [item[0] for item in found] == rows
        assert all(
            same(item[1], r, with_picture=True) for item, r in zip(found, records, strict=True)
        )

    def test_reads_a_picture_only_when_asked(self, store: TokenStore) -> None:
        store.put([make_record(3)])
        assert make_record(3).picture is not None
        assert store.get_many([make_id(3)])[0][1].picture is None
        assert next(iter(store.scan()))[1].picture is None

    def test_answers_in_the_order_asked_with_none_for_the_unknown(self, store: TokenStore) -> None:
        store.put(make_records(range(3)))
        found = store.get_many([make_id(2), "unknown", make_id(0), make_id(2)])
        assert [item and item[1].id for item in found] == [make_id(2), None, make_id(0), make_id(2)]

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
            store.put([make_record(1), make_record(2, metadata={"x": float("nan")})])
        with pytest.raises(StoreError):
            store.put([make_record(1), make_record(2, width_px=-1)])
        with pytest.raises(StoreError):
            store.put([make_record(1), make_record(1)])
        assert [record.id for _, record in store.scan()] == [make_id(0)]

    def test_a_record_of_the_same_id_takes_the_place_of_the_old_under_a_new_row(
        self, store: TokenStore
    ) -> None:
        (old_row,) = store.put([make_record(0)])
        newer = make_record(0, metadata={"new": True}, picture=Picture("image/png", b"new"))
        (new_row,) = store.put([newer])
        assert new_row > old_row
        assert store.get_rows([old_row]) == [None]
        assert same(store.get_many([newer.id], with_picture=True)[0][1], newer, with_picture=True)
        assert store.sizes().images == 1

    def test_never_gives_a_row_twice(self, store: TokenStore) -> None:
        given = store.put([make_record(0), make_record(1)])
        store.delete([make_id(0), make_id(1)])
        assert store.last_row() == max(given)
        given += store.put([make_record(1)])
        store.put([make_record(1)])
        given += [store.last_row()]
        assert len(set(given)) == len(given)

    def test_deletes_and_tells_the_rows(self, store: TokenStore) -> None:
        rows = store.put(make_records(range(3)))
        assert store.delete([make_id(1), "unknown", make_id(1)]) == [rows[1], None, None]
        assert store.get_many(make_ids(range(3)))[1] is None
        assert store.get_rows(rows)[1] is None
        assert store.delete([make_id(1)]) == [None]

    def test_scans_in_row_order_from_a_row_on(self, store: TokenStore) -> None:
        rows = store.put(make_records(range(600)))
        store.delete([make_id(300)])
        del rows[300]
        assert [row for row, _ in store.scan()] == rows
        assert [row for row, _ in store.scan(after_row=rows[10])] == rows[11:]
        assert [row for row, _ in store.scan(after_row=rows[10], limit=280)] == rows[11:291]
        assert list(store.scan(limit=0)) == []

    def test_a_scan_goes_on_while_records_come_and_go(self, store: TokenStore) -> None:
        rows = store.put(make_records(range(600)))
        scan = store.scan()
        assert next(scan)[0] == rows[0]
        store.delete([make_id(1)])
        store.put([make_record(600)])
        seen = [row for row, _ in scan]
        assert seen == sorted(seen)
        assert set(rows[2:]) <= set(seen)

    def test_reads_by_row(self, store: TokenStore) -> None:
        rows = store.put(make_records(range(3)))
        found = store.get_rows([rows[2], 10**9, rows[0]])
        assert [record and record.id for record in found] == [make_id(2), None, make_id(0)]

    def test_knows_the_rows_of_each_model(self, store: TokenStore) -> None:
        rows = store.put(
            [make_record(0), make_record(1, fingerprint=OTHER_FINGERPRINT), make_record(2)]
        )
        assert store.rows(FINGERPRINT).tolist() == [rows[0], rows[2]]
        assert store.rows(OTHER_FINGERPRINT).tolist() == [rows[1]]
        assert store.rows("never seen").tolist() == []
        assert store.rows(FINGERPRINT).dtype == np.int64

    def test_sizes_follow_every_write(self, store: TokenStore) -> None:
        records = make_records(range(4))
        store.put(records)
        sizes = store.sizes()
        assert sizes.images == 4
        assert sizes.token_bytes == sum(len(r.tokens) for r in records)
        assert sizes.embedding_bytes == sum(4 + r.embedding.size for r in records)
        assert sizes.picture_bytes >= sum(len(r.picture.data) for r in records if r.picture)
        store.put([make_record(0, picture=None)])
        store.delete(make_ids(range(4)))
        after = store.sizes()
        assert (after.images, after.token_bytes, after.embedding_bytes) == (0, 0, 0)
        assert (after.record_bytes, after.picture_bytes) == (0, 0)

    def test_keeps_any_json_metadata(self, store: TokenStore) -> None:
        metadata = {
            "ключ": [1, 2.5, None, True, {"深": "値\u0000'\""}],
            "": {},
            "big": 2**80,
            "dup": ["a", "a"],
        }
        store.put([make_record(0, metadata=metadata)])
        assert store.get_many([make_id(0)])[0][1].metadata == metadata

    def test_updates_in_place_and_keeps_the_picture(self, store: TokenStore) -> None:
        rows = store.put(make_records((0, 1, 3)))
        store.delete([make_id(1)])
        changed = make_record(
            3, metadata={"new": [1, 2]}, codec="sq8", tokens=b"short", picture=None
        )
        assert store.update(
            [(rows[2], changed), (rows[1], make_record(1)), (10**9, make_record(5))]
        ) == [
            True,
            False,
            False,
        ]
        ((row, found),) = store.get_many([make_id(3)], with_picture=True)
        assert row == rows[2]
        assert found.picture == make_record(3).picture
        assert same(found, changed)
        assert same(store.get_many([make_id(0)])[0][1], make_record(0))
        sizes = store.sizes()
        assert sizes.token_bytes == len(make_record(0).tokens) + len(b"short")
        store.delete([make_id(0), make_id(3)])
        assert (store.sizes().record_bytes, store.sizes().token_bytes) == (0, 0)

    def test_an_update_may_not_change_what_the_index_knows(self, store: TokenStore) -> None:
        rows = store.put([make_record(0), make_record(1)])
        first = make_record(0, metadata={"new": 1})
        for wrong in (
            make_record(2),
            make_record(1, fingerprint=OTHER_FINGERPRINT),
            make_record(1, embedding=make_record(2).embedding),
            make_record(1, metadata={"x": float("nan")}),
        ):
            with pytest.raises((StoreError, InvalidMetadata)):
                store.update([(rows[0], first), (rows[1], wrong)])
        assert same(store.get_rows(rows)[0], make_record(0))

    def test_filters_by_what_is_in_the_metadata(self, store: TokenStore) -> None:
        kept = [
            {"tags": ["cat", "dog"], "year": 2020, "gps": {"lat": 1.5}},
            {"tags": ["cat"], "year": 2021.5, "ok": True},
            {"tags": "dog", "year": "2021", "note": "x" * 300},
            {},
        ]
        rows = store.put([make_record(n, metadata=metadata) for n, metadata in enumerate(kept)])
        store.put([make_record(9, metadata=kept[0], fingerprint=OTHER_FINGERPRINT)])

        def found(where: dict[str, Any]) -> list[int]:
            return [
                rows.index(row) for row in store.rows(FINGERPRINT, parse_filter(where)).tolist()
            ]

        assert found({}) == [0, 1, 2, 3]
        assert found({"tags": "cat"}) == [0, 1]
        assert found({"tags": {"in": ["dog", "bird", 7]}}) == [0, 2]
        assert found({"tags": {"in": []}}) == []
        assert found({"tags": "cat", "year": {"gte": 2021}}) == [1]
        assert found({"year": {"gt": 0}}) == [0, 1]
        assert found({"year": {"lt": 10**9}}) == [0, 1]
        assert found({"year": {"lte": "3", "gte": ""}}) == [2]
        assert found({"year": 2021}) == []
        assert found({"ok": True}) == [1]
        assert found({"gps.lat": {"gt": 1, "lt": 2}}) == [0]
        assert found({"gps": 1.5}) == []
        # One value must pass all comparisons: neither "cat" nor "dog" is both.
        assert found({"tags": {"gt": "cat", "lt": "dog"}}) == []
        store.update([(rows[3], make_record(3, metadata={"tags": "cat"}))])
        store.delete([make_id(0)])
        assert found({"tags": "cat"}) == [1, 3]

    def test_threads_write_and_read_side_by_side(self, store: TokenStore) -> None:
        def work(thread: int) -> None:
            for n in range(thread * 100, thread * 100 + 10):
                (row,) = store.put([make_record(n)])
                assert same(store.get_many([make_id(n)])[0][1], make_record(n))
                if n % 2:
                    assert store.delete([make_id(n)]) == [row]
                    assert store.get_many([make_id(n)]) == [None]

        run_threads(8, work)
        assert sorted(r.id for _, r in store.scan()) == sorted(
            make_id(t * 100 + n) for t in range(8) for n in range(0, 10, 2)
        )

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
            lambda: store.rows(FINGERPRINT),
            store.last_row,
            store.sizes,
        )
        for call in calls:
            with pytest.raises(StoreClosed):
                call()


def test_samples_are_told_apart() -> None:
    """Guards the suite's own comparison."""
    one: Record = make_record(0)
    assert same(one, make_record(0), with_picture=True)
    assert not same(one, make_record(0, embedding=one.embedding + 1))
    assert not same(one, make_record(0, picture=None), with_picture=True)
    assert not same(one, None)
