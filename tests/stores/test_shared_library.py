"""Libraries and collections in every store that several processes share."""

from __future__ import annotations

from pathlib import Path

import pytest

from index.collections import Collections
from index.errors import (
    CodecStateMissing,
    CollectionExists,
    CollectionMissing,
    StoreBusy,
)
from index.library import Library
from tests.index.libraries import (
    assert_found,
    assert_kept,
    counts,
    open_here,
    opened,
    page_ids,
    top,
)
from tests.index.samples import make_id, make_ids, make_image, make_images
from tests.stores.opening import collections_in
from tests.threads import run_threads

pytestmark = pytest.mark.stores


def test_a_library_is_there_after_a_restart(any_url: str, tmp_path: Path) -> None:
    with opened(tmp_path / "a", store=any_url) as library:
        library.put(make_images(range(4)))
        library.delete([make_id(2)])
    # In another folder: all that cannot be derived is in the store.
    with opened(tmp_path / "b", store=any_url) as library:
        for number in (0, 1, 3):
            assert_kept(library, number)
        assert_found(library, [0, 1, 3])
        assert library.get([make_id(2)]) == [None]


def test_each_finds_what_the_other_stored(any_url: str, tmp_path: Path) -> None:
    with (
        opened(tmp_path / "a", store=any_url) as one,
        opened(tmp_path / "b", store=any_url) as other,
    ):
        one.put([make_image(0)])
        assert top(other, 0) == [make_id(0)]
        other.put([make_image(1)])
        one.delete([make_id(0)])
        assert top(other, 0) == top(one, 1) == [make_id(1)]


def test_one_process_has_a_folder(any_url: str, tmp_path: Path) -> None:
    with opened(tmp_path, store=any_url), pytest.raises(StoreBusy):
        open_here(tmp_path, store=any_url)


def test_collections_are_apart_and_go_with_their_images(
    any_url: str, tmp_path: Path
) -> None:
    with collections_in(any_url, tmp_path) as collections:
        cats, dogs = collections.create("cats"), collections.create("dogs")
        cats.put([make_image(0)])
        assert dogs.put([make_image(0), make_image(1)])[0].created
        with pytest.raises(CollectionExists):
            collections.create("cats")
        assert collections.image_counts() == {"cats": 1, "dogs": 2}
        collections.delete("dogs")
        with pytest.raises(CollectionMissing):
            dogs.get([make_id(0)])
        assert collections.names() == ["cats"]
        assert top(collections.create("dogs"), 0) == []
    with collections_in(any_url, tmp_path / "elsewhere") as collections:
        assert collections.image_counts() == {"cats": 1, "dogs": 0}
        assert top(collections.get("cats"), 0) == [make_id(0)]


def test_a_collection_deleted_elsewhere_is_gone_here(
    any_url: str, tmp_path: Path
) -> None:
    with (
        collections_in(any_url, tmp_path / "a") as here,
        collections_in(any_url, tmp_path / "b") as there,
    ):
        here.create("cats").put([make_image(0)])
        assert top(there.get("cats"), 0) == [make_id(0)]
        here.delete("cats")
        with pytest.raises(CollectionMissing):
            there.get("cats")
        here.create("cats").put([make_image(1)])
        assert top(there.get("cats"), 0) == [make_id(1)]


def test_trained_codecs_are_in_the_store(any_url: str, tmp_path: Path) -> None:
    with opened(tmp_path / "a", store=any_url) as library:
        library.put([make_image(0)])
        state = tmp_path / "a" / "codecs" / "pq4@00.faiss"
        state.parent.mkdir()
        state.write_bytes(b"trained")
    with opened(tmp_path / "a", store=any_url):
        pass
    with opened(tmp_path / "b", store=any_url):
        assert (tmp_path / "b" / "codecs" / state.name).read_bytes() == b"trained"


def test_a_codec_that_nobody_has_is_missing(any_url: str, tmp_path: Path) -> None:
    with pytest.raises(CodecStateMissing):
        open_here(tmp_path, store=any_url, codec="pq4@00")


def test_two_writers_of_one_collection(any_url: str, tmp_path: Path) -> None:
    def work(number: int) -> None:
        with collections_in(any_url, tmp_path / f"{number}") as collections:
            cats = made(collections, "cats")
            for image in (0, 1, 10 + number):
                cats.put([make_image(image)])
            assert_found(cats, [0, 1, 10 + number])

    run_threads(2, work)
    with collections_in(any_url, tmp_path / "reader") as collections:
        cats = collections.get("cats")
        assert sorted(page_ids(cats)) == sorted(make_ids([0, 1, 10, 11]))
        assert counts(cats) == {4}


def made(collections: Collections, name: str) -> Library:
    """The collection, which another process may have made a moment ago."""
    try:
        return collections.create(name)
    except CollectionExists:
        return collections.get(name)
