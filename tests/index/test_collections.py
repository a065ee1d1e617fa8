"""Collections: isolated, named safely, gone when deleted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from index.collections import Collections
from index.data_folder import COLLECTIONS
from index.errors import (
    CollectionExists,
    CollectionMissing,
    InvalidCollectionName,
    StoreClosed,
)
from index.library import Library
from tests.index.libraries import open_here, top
from tests.index.samples import make_id, make_image
from tests.threads import run_threads


@pytest.fixture
def collections(tmp_path: Path) -> Iterator[Collections]:
    collections = Collections(tmp_path, open_here)
    yield collections
    collections.close()


def test_collections_do_not_see_one_another(collections: Collections) -> None:
    cats, dogs = collections.create("cats"), collections.create("dogs")
    cats.put([make_image(0)])
    assert dogs.put([make_image(0), make_image(1)])[0].created
    cats.delete([make_id(0)])
    assert top(dogs, 0) == [make_id(0)]
    assert top(cats, 0) == []
    assert collections.names() == ["cats", "dogs"]
    assert collections.get("dogs") is dogs


def test_they_are_there_after_a_restart(tmp_path: Path) -> None:
    collections = Collections(tmp_path, open_here)
    collections.create("a-1_b").put([make_image(0)])
    collections.close()
    with pytest.raises(StoreClosed):
        collections.get("a-1_b")
    collections = Collections(tmp_path, open_here)
    assert collections.names() == ["a-1_b"]
    assert top(collections.get("a-1_b"), 0) == [make_id(0)]
    collections.close()


def test_a_deleted_collection_is_gone(collections: Collections, tmp_path: Path) -> None:
    library = collections.create("gone")
    library.put([make_image(0)])
    collections.delete("gone")
    assert collections.names() == []
    assert list((tmp_path / COLLECTIONS).iterdir()) == []
    for use in (
        lambda: library.put([make_image(1)]),
        lambda: library.get([make_id(0)]),
        lambda: top(library, 0),
        lambda: library.delete([make_id(0)]),
    ):
        with pytest.raises(CollectionMissing, match="has been deleted"):
            use()
    for call in (collections.get, collections.delete):
        with pytest.raises(CollectionMissing):
            call("gone")
    assert top(collections.create("gone"), 0) == []


def test_images_are_counted_in_open_and_in_closed_collections(tmp_path: Path) -> None:
    collections = Collections(tmp_path, open_here)
    collections.create("one").put([make_image(0)])
    collections.create("two").put([make_image(0), make_image(1)])
    collections.close()
    collections = Collections(tmp_path, open_here)
    collections.get("one").put([make_image(2)])
    assert collections.image_counts() == {"one": 2, "two": 2}
    collections.close()


def test_a_deletion_that_was_cut_short_is_finished(tmp_path: Path) -> None:
    collections = Collections(tmp_path, open_here)
    collections.create("kept")
    collections.create("gone")
    collections.close()
    (tmp_path / COLLECTIONS / "gone").rename(
        tmp_path / COLLECTIONS / ".deleted-gone-12345678"
    )
    collections = Collections(tmp_path, open_here)
    assert (
        [path.name for path in (tmp_path / COLLECTIONS).iterdir()]
        == collections.names()
        == ["kept"]
    )
    collections.close()


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "a/b",
        "../a",
        "A",
        "é",
        "-a",
        "_a",
        "a" * 64,
        "a\n",
        "a b",
        ".deleted-x",
    ],
)
def test_a_name_is_no_path(collections: Collections, name: str) -> None:
    for call in (collections.create, collections.get, collections.delete):
        with pytest.raises(InvalidCollectionName):
            call(name)


def test_one_of_many_threads_creates(collections: Collections) -> None:
    created: list[Library] = []
    refused: list[CollectionExists] = []

    def work(_: int) -> None:
        try:
            created.append(collections.create("one"))
        except CollectionExists as error:
            refused.append(error)

    run_threads(8, work)
    assert (len(created), len(refused)) == (1, 7)
