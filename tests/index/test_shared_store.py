"""Libraries over one store, as replicas have them: each finds what the others have stored."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.codecs.registry import CodecRegistry
from index.library import Library
from index.ports import Changes, Position
from index.store.memory import MemoryStore
from index.vectors.numpy_index import NumpyIndex
from tests.index.libraries import assert_found, counts, hit_ids, nearest, query_of, top
from tests.index.samples import (
    EMBEDDING_SIZE,
    FINGERPRINT,
    TOKEN_SHAPE,
    make_id,
    make_ids,
    make_image,
    make_images,
)

numbers = st.integers(0, 7)
Step = tuple[str, int, int]  # what is done, by which library, to which image


def library_over(store: MemoryStore) -> Library:
    return Library(
        store=store,
        index=NumpyIndex(EMBEDDING_SIZE),
        codecs=CodecRegistry(Path("nowhere")),
        snapshots=None,
        fingerprint=FINGERPRINT,
        token_shape=TOKEN_SHAPE,
        embedding_size=EMBEDDING_SIZE,
        codec="sq8",
        feed=store,
    )


@pytest.fixture
def replicas() -> Iterator[tuple[Library, Library]]:
    store = MemoryStore()
    yield library_over(store), library_over(store)
    store.close()


def found(library: Library) -> set[str]:
    return set(hit_ids(nearest(library, query_of(0), 100)))


def test_each_finds_what_the_other_stored(replicas: tuple[Library, Library]) -> None:
    one, other = replicas
    one.put(make_images(range(5)))
    assert_found(other, range(5))
    other.put(make_images([3, 9]))
    assert_found(one, [3, 9])
    assert counts(one) == counts(other) == {6}


def test_what_one_deleted_none_finds(replicas: tuple[Library, Library]) -> None:
    one, other = replicas
    one.put(make_images(range(3)))
    assert top(other, 1) == [make_id(1)]
    one.delete([make_id(1)])
    assert found(other) == set(make_ids([0, 2]))
    assert counts(other) == {2}


def test_one_content_of_two_writers_is_there_once(
    replicas: tuple[Library, Library],
) -> None:
    one, other = replicas
    one.put([make_image(0)])
    (result,) = other.put([make_image(0)])
    assert not result.created
    assert found(one) == found(other) == {make_id(0)}


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["put", "delete", "search"]), st.integers(0, 1), numbers
        )
    )
)
def test_any_calls_of_two_leave_both_as_a_set_would_be(steps: list[Step]) -> None:
    store = MemoryStore()
    replicas = (library_over(store), library_over(store))
    expected: set[str] = set()
    for call, which, number in steps:
        if call == "put":
            replicas[which].put([make_image(number)])
            expected.add(make_id(number))
        elif call == "delete":
            replicas[which].delete([make_id(number)])
            expected.discard(make_id(number))
        else:
            assert found(replicas[which]) == expected
    for library in replicas:
        assert found(library) == expected
        assert counts(library) == {len(expected)}


class Forgetful(MemoryStore):
    """Knows no removals any more."""

    def changes(self, fingerprint: str, after: Position) -> Changes:
        changes = super().changes(fingerprint, after)
        return Changes(changes.position, changes.added, None)


def test_a_follower_too_far_behind_compares_all_rows() -> None:
    store = Forgetful()
    one, other = library_over(store), library_over(store)
    one.put(make_images(range(4)))
    one.delete([make_id(2)])
    assert found(other) == set(make_ids([0, 1, 3]))
    assert counts(other) == {3}


class Rewound(MemoryStore):
    """Becomes an earlier copy of itself."""

    def rewind(self) -> None:
        self._records.clear()
        self._row_of.clear()
        self._last_row = 0

    def changes(self, fingerprint: str, after: Position) -> Changes:
        changes = super().changes(fingerprint, after)
        if changes.position.row < after.row:
            return Changes(changes.position, np.array([], dtype=np.int64), None)
        return changes


def test_a_store_that_went_back_is_indexed_anew() -> None:
    store = Rewound()
    library = library_over(store)
    library.put(make_images(range(4)))
    store.rewind()
    store.put([library_over(MemoryStore()).put([make_image(9)])[0].record])
    assert found(library) == {make_id(9)}
    assert top(library, 9) == [make_id(9)]
