"""Filters: what they mean, what they refuse, and that every store reads them alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from index.errors import InvalidFilter
from index.filters import (
    COMPARISONS,
    MAX_CHOICES,
    MAX_CONDITIONS,
    metadata_terms,
    parse_filter,
)
from index.store.memory import MemoryStore
from index.store.sqlite import SqliteStore
from tests.index.samples import FINGERPRINT, make_record

names = st.sampled_from(["a", "b", "a.b", "'; DROP TABLE images; --", ""])
numbers = st.integers(-3, 3) | st.sampled_from(
    [0.5, -2.5, 2**62, 2**53 + 1, float(2**53)]
)
values = (
    numbers
    | st.booleans()
    | st.sampled_from(["", "a", "b", "1", "\u0000", "é", "😀", "\uffff"])
)
metadata = st.dictionaries(
    st.sampled_from(["a", "b", "'; DROP TABLE images; --", ""]),
    values
    | st.none()
    | st.lists(values, max_size=3)
    | st.dictionaries(st.sampled_from(["a", "b"]), values, max_size=2),
    max_size=3,
)
conditions = values | st.dictionaries(
    st.sampled_from(list(COMPARISONS)), values, min_size=1, max_size=2
)
conditions |= st.fixed_dictionaries({"in": st.lists(values, max_size=3)})
wheres = st.dictionaries(names, conditions, max_size=2)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    held=st.lists(metadata, max_size=5), asked=st.lists(wheres, min_size=1, max_size=5)
)
def test_all_stores_read_a_filter_alike(
    tmp_path_factory: pytest.TempPathFactory,
    held: list[dict[str, Any]],
    asked: list[dict[str, Any]],
) -> None:
    stores = [MemoryStore(), SqliteStore(tmp_path_factory.mktemp("store"))]
    for store in stores:
        store.put([make_record(n, metadata=one) for n, one in enumerate(held)])
    for where in asked:
        expected = [
            n + 1
            for n, one in enumerate(held)
            if parse_filter(where).matches(metadata_terms(one))
        ]
        for store in stores:
            assert store.rows(FINGERPRINT, parse_filter(where)).tolist() == expected
    for store in stores:
        store.close()


@pytest.mark.parametrize(
    "where",
    [
        [],
        "text",
        None,
        {"a": None},
        {"a": {}},
        {"a": [1]},
        {"a": {"near": 1}},
        {"a": {"gt": None}},
        {"a": {"gt": float("nan")}},
        {"a": {"gt": 2**63}},
        {"a": {"in": 1}},
        {"a": {"in": [None]}},
        {"a": {"in": list(range(MAX_CHOICES + 1))}},
        {"a": "x" * 257},
        {"a": "\ud800"},
        {str(n): 1 for n in range(MAX_CONDITIONS + 1)},
    ],
)
def test_a_filter_that_means_nothing_is_refused(where: Any) -> None:
    with pytest.raises(InvalidFilter):
        parse_filter(where)


def test_terms_are_the_scalars_by_dotted_name() -> None:
    metadata = {
        "tags": ["a", "b", "a"],
        "gps": {"lat": 1.5, "place": {"name": "x"}},
        "ok": True,
        "none": None,
        "long": "x" * 257,
        "huge": 2**80,
        "deep": [[1], [{"y": 2}]],
    }
    assert metadata_terms(metadata) == [
        ("tags", "a"),
        ("tags", "b"),
        ("gps.lat", 1.5),
        ("gps.place.name", "x"),
        ("ok", 1),
        ("deep", 1),
        ("deep.y", 2),
    ]


def test_the_largest_filter_is_within_what_sqlite_binds(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    where = {f"n{n}": {"in": list(range(MAX_CHOICES))} for n in range(MAX_CONDITIONS)}
    assert store.rows(FINGERPRINT, parse_filter(where)).tolist() == []
    store.close()
