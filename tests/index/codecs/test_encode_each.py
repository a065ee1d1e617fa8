"""Images of different numbers of tokens: encoded together, kept in one library, replaced."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.codecs.scalar import SELF_CONTAINED, encode_each
from index.errors import InvalidTokens
from index.library import Library
from index.ports import NewImage, PutResult
from tests.index.libraries import counts, created, open_here, page_ids, top
from tests.index.samples import TOKEN_SHAPE, make_id, make_ids, make_image
from tests.index.test_library import library as library

COUNTS = [4, 1, 2, 4, 3]  # tokens of image 0, 1, …


def few(number: int, count: int, **changes: object) -> NewImage:
    """Image `number` with the first `count` of its tokens."""
    image = make_image(number)
    return replace(image, tokens=image.tokens[:count], **changes)


def put_counts(library: Library) -> list[PutResult]:
    return library.put([few(number, count) for number, count in enumerate(COUNTS)])


def token_counts(results: Sequence[PutResult]) -> list[int]:
    return [result.record.token_count for result in results]


def check_tokens(library: Library) -> None:
    """Every image of COUNTS gives back its tokens, nearly."""
    for number, count in enumerate(COUNTS):
        (tokens,) = library.tokens([make_id(number)])
        expected = make_image(number).tokens[:count]
        assert tokens is not None
        assert tokens.shape == (count, TOKEN_SHAPE[1])
        assert np.abs(tokens - expected).max() < 0.02


@given(st.lists(st.integers(1, 5), max_size=9), st.sampled_from(sorted(SELF_CONTAINED)))
def test_together_they_become_what_they_become_alone(
    sizes: list[int], name: str
) -> None:
    codec = SELF_CONTAINED[name]()
    random = np.random.default_rng(0)
    images = [random.normal(size=(size, 6)).astype(np.float32) for size in sizes]
    together = encode_each(codec, images)
    for data, tokens in zip(together, images, strict=True):
        assert [data] == codec.encode(tokens[np.newaxis])
        assert codec.decode(data, len(tokens), 6).shape == tokens.shape


def test_one_library_holds_them_side_by_side(library: Library) -> None:
    results = put_counts(library)
    assert token_counts(results) == COUNTS
    token_bytes = [len(result.record.tokens) for result in results]
    assert token_bytes == [count * (8 + TOKEN_SHAPE[1]) for count in COUNTS]
    check_tokens(library)
    for number in range(len(COUNTS)):
        assert top(library, number) == [make_id(number)]


def test_more_tokens_take_the_place_of_fewer_and_fewer_change_nothing(
    library: Library,
) -> None:
    library.put([few(0, 2), few(1, 2)])
    library.set_metadata(make_id(0), {"kept": True})
    (fewer,) = library.put([few(0, 1, metadata={"new": True})])
    assert (fewer.created, fewer.record.token_count) == (False, 2)
    (same,) = library.put([few(0, 2)])
    assert not same.created
    (more,) = library.put([few(0, 4, metadata={"new": True})])
    assert (more.created, more.record.token_count) == (True, 4)
    assert more.record.metadata == {"kept": True}
    (record,) = library.get([make_id(0)])
    assert record is not None
    assert (record.token_count, record.metadata) == (4, {"kept": True})
    assert page_ids(library) == make_ids([1, 0])
    assert counts(library) == {2}
    assert top(library, 0) == [make_id(0)]


@pytest.mark.parametrize("before", [0, 1, 2])
@pytest.mark.parametrize("sizes", [(1, 3), (3, 1)])
def test_a_content_that_comes_twice_is_stored_with_the_more_tokens(
    library: Library, sizes: tuple[int, int], before: int
) -> None:
    if before:
        library.put([few(0, before)])
    results = library.put([few(0, size) for size in sizes])
    assert created(results) == [True, False]
    assert token_counts(results) == [3, 3]


@pytest.mark.parametrize("shape", [(0, 12), (5, 12), (4, 11), (12,), (1, 4, 12)])
def test_other_shapes_are_refused(library: Library, shape: tuple[int, ...]) -> None:
    image = replace(make_image(0), tokens=np.zeros(shape, np.float32))
    with pytest.raises(InvalidTokens):
        library.put([image])
    assert library.stats().images == 0


def test_they_are_recoded_together(tmp_path: Path) -> None:
    library = open_here(tmp_path, codec="fp16")
    put_counts(library)
    library.close()
    library = open_here(tmp_path, codec="sq8")
    try:
        assert [step.recoded for step in library.recode()] == [len(COUNTS)]
        check_tokens(library)
    finally:
        library.close()
