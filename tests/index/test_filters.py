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
    MAX_DEPTH,
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
conditions |= st.fixed_dictionaries(
    {},
    optional={
        "ne": values,
        "not in": st.lists(values, max_size=3),
        "exists": st.booleans(),
        "gt": values,
    },
).filter(bool)
simple = st.dictionaries(names, conditions, max_size=2)
wheres = st.recursive(
    simple,
    lambda inner: st.builds(
        lambda where, either: {**where, "or": either},
        simple,
        st.lists(inner, min_size=1, max_size=3),
    ),
    max_leaves=4,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
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
        {"a": {"not in": 1}},
        {"a": {"not in": [None]}},
        {"a": {"ne": None}},
        {"a": {"ne": [1]}},
        {"a": {"exists": 1}},
        {"or": []},
        {"or": [1]},
        {"or": [{"a": None}]},
        {"or": [{str(n): 1} for n in range(MAX_CONDITIONS + 1)]},
        {"or": [{"a": 1, "b": {"or": 1}}]},
        {"or": [{"or": [{"or": [{"or": [{"or": [{"a": 1}]}]}]}]}]},
        {"a": "x" * 257},
        {"a": "\ud800"},
        {str(n): 1 for n in range(MAX_CONDITIONS + 1)},
    ],
)
def test_a_filter_that_means_nothing_is_refused(where: Any) -> None:
    with pytest.raises(InvalidFilter):
        parse_filter(where)


def matching(where: dict[str, Any], **metadata: Any) -> bool:
    return parse_filter(where).matches(metadata_terms(metadata))


def test_ne_and_not_in_hold_where_no_value_is_equal() -> None:
    assert matching({"tags": {"ne": "cat"}}, tags=["dog"])
    assert not matching({"tags": {"ne": "cat"}}, tags=["dog", "cat"])
    assert matching({"tags": {"ne": "cat"}})
    assert not matching({"tags": {"ne": "cat", "exists": True}})
    assert not matching({"year": {"not in": [2020, 2021]}}, year=2021)
    assert matching({"year": {"not in": [2020, 2021], "gt": 2000}}, year=2022)
    assert not matching({"year": {"not in": [2020], "gt": 2000}}, year=1999)


def test_exists_sees_into_objects() -> None:
    assert matching({"gps": {"exists": True}}, gps={"lat": 1})
    assert not matching({"gps": {"exists": True}}, gpsx=1)
    assert not matching({"gps": {"exists": True}}, gps={"lat": None})
    assert matching({"gps": {"exists": False}}, gps={})
    assert not matching({"gps": {"exists": False}}, gps={"place": {"name": "x"}})


def test_alternatives_and_a_name_spelt_or() -> None:
    where = {"or": [{"year": 2020}, {"camera": "A"}], "tags": "cat"}
    assert matching(where, year=2020, tags=["cat"])
    assert matching(where, camera="A", tags=["cat"])
    assert not matching(where, year=2020)
    assert not matching(where, year=2021, tags=["cat"])
    assert matching({"or": "x"}, **{"or": "x"})
    assert matching({"or": {"ne": "y"}}, **{"or": "x"})
    assert matching({"or": [{}]})
    nested: dict[str, Any] = {"a": 1}
    for _ in range(MAX_DEPTH):
        nested = {"or": [nested]}
    assert matching(nested, a=1)
    assert not matching(nested, a=2)


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
    choices = list(range(MAX_CHOICES))
    condition = {"in": choices, "not in": choices, "exists": True}
    where = {f"n{n}": condition for n in range(MAX_CONDITIONS)}
    for each in (where, {"or": [{name: condition} for name in where]}):
        assert store.rows(FINGERPRINT, parse_filter(each)).tolist() == []
    store.close()
