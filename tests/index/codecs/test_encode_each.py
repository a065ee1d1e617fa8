"""Images of different numbers of tokens: encoded together as each alone, in one library, replaced
by larger ones.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.codecs.scalar import SELF_CONTAINED, encode_each
from index.errors import InvalidTokens
from index.library import Library
from index.ports import NewImage
from tests.index.samples import TOKEN_SHAPE, make_id, make_image
from tests.index.test_library import library as library
from tests.index.test_library import open_here, top


def few(number: int, count: int, **changes: object) -> NewImage:
    """Image `number` with the first `count` of its tokens."""
    return replace(make_image(number), tokens=make_image(number).tokens[:count], **changes)


@given(st.lists(st.integers(1, 5), max_size=9), st.sampled_from(sorted(SELF_CONTAINED)))
def test_together_they_become_what_they_become_alone(counts: list[int], name: str) -> None:
    codec = SELF_CONTAINED[name]()
    images = [
        np.random.default_rng(n).normal(size=(count, 6)).astype(np.float32)
        for n, count in enumerate(counts)
    ]
    together = encode_each(codec, images)
    assert together == [codec.encode(tokens[np.newaxis])[0] for tokens in images]
    for data, tokens in zip(together, images, strict=True):
        assert codec.decode(data, len(tokens), 6).shape == tokens.shape


def test_one_library_holds_them_side_by_side(library: Library) -> None:
    counts = [4, 1, 2, 4, 3]
    stored = library.put([few(number, count) for number, count in enumerate(counts)])
    assert [each.record.token_count for each in stored] == counts
    assert [len(each.record.tokens) for each in stored] == [
        count * (8 + TOKEN_SHAPE[1]) for count in counts
    ]
    read = library.tokens([make_id(number) for number in range(5)])
    for number, (tokens, count) in enumerate(zip(read, counts, strict=True)):
        assert tokens is not None
        assert tokens.shape == (count, TOKEN_SHAPE[1])
        assert np.abs(tokens - make_image(number).tokens[:count]).max() < 0.02
        assert top(library, number) == [make_id(number)]


def test_more_tokens_take_the_place_of_fewer_and_fewer_change_nothing(library: Library) -> None:
    library.put([few(0, 2), few(1, 2)])
    library.set_metadata(make_id(0), {"kept": True})
    (less,) = library.put([few(0, 1, metadata={"new": True})])
    assert (less.created, less.record.token_count) == (False, 2)
    (same,) = library.put([few(0, 2)])
    assert not same.created
    (more,) = library.put([few(0, 4, metadata={"new": True})])
    assert (more.created, more.record.token_count) == (True, 4)
    assert more.record.metadata == {"kept": True}
    (record,) = library.get([make_id(0)])
    assert record is not None
    assert (record.token_count, record.metadata) == (4, {"kept": True})
    assert [each.id for each in library.page().records] == [make_id(1), make_id(0)]
    assert library.stats().images == library.stats().index_vectors == 2
    assert top(library, 0) == [make_id(0)]


@pytest.mark.parametrize("before", [0, 1, 2])
@pytest.mark.parametrize("counts", [(1, 3), (3, 1)])
def test_what_comes_twice_is_stored_with_the_more_tokens(
    library: Library, counts: tuple[int, int], before: int
) -> None:
    if before:
        library.put([few(0, before)])
    stored = library.put([few(0, count) for count in counts])
    assert [each.created for each in stored] == [True, False]
    assert [each.record.token_count for each in stored] == [3, 3]


@pytest.mark.parametrize("shape", [(0, 12), (5, 12), (4, 11), (12,), (1, 4, 12)])
def test_other_shapes_are_refused(library: Library, shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidTokens):
        library.put([replace(make_image(0), tokens=np.zeros(shape, np.float32))])
    assert library.stats().images == 0


def test_they_are_recoded_together(tmp_path: Path) -> None:
    library = open_here(tmp_path, codec="fp16")
    counts = [4, 1, 2, 4, 3]
    library.put([few(number, count) for number, count in enumerate(counts)])
    library.close()
    library = open_here(tmp_path, codec="sq8")
    assert [step.recoded for step in library.recode()] == [5]
    try:
        for number, count in enumerate(counts):
            (tokens,) = library.tokens([make_id(number)])
            assert tokens is not None
            assert np.abs(tokens - make_image(number).tokens[:count]).max() < 0.02
    finally:
        library.close()
