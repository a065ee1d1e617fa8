"""A search with a filter finds what comparing every record would, on every index, while images and
metadata change.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from index.codecs.registry import CodecRegistry
from index.filters import metadata_terms, parse_filter
from index.library import Library
from index.ports import VectorIndex
from index.store.sqlite import SqliteStore
from index.vectors.auto_index import AutoIndex
from index.vectors.flat_index import FlatIndex
from index.vectors.numpy_index import NumpyIndex
from tests.index.samples import (
    EMBEDDING_SIZE,
    FINGERPRINT,
    TOKEN_SHAPE,
    make_id,
    make_image,
    make_images,
    unit_vectors,
)

IMAGES = 160

INDEXES = {
    "numpy": lambda: NumpyIndex(EMBEDDING_SIZE),
    "flat": lambda: FlatIndex(EMBEDDING_SIZE),
    "inverted": lambda: AutoIndex(EMBEDDING_SIZE, exact_up_to=100),
}
numbers = st.integers(0, IMAGES - 1)
wheres = st.fixed_dictionaries(
    {},
    optional={
        "tags": st.sampled_from(["even", "odd", "rare", "none"])
        | st.fixed_dictionaries({"in": st.just(["odd", "rare"])}),
        "number": numbers
        | st.fixed_dictionaries({"gte": numbers}, optional={"lt": numbers}),
    },
).filter(bool)
changes = st.lists(
    st.tuples(st.sampled_from(["delete", "put", "tag"]), numbers), max_size=12
)


@pytest.fixture(scope="module", params=list(INDEXES))
def library(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Library]:
    index: VectorIndex = INDEXES[request.param]()
    folder: Path = tmp_path_factory.mktemp("library")
    opened = Library(
        store=SqliteStore(folder),
        index=index,
        codecs=CodecRegistry(folder / "codecs"),
        snapshots=None,
        fingerprint=FINGERPRINT,
        token_shape=TOKEN_SHAPE,
        embedding_size=EMBEDDING_SIZE,
        codec="sq8",
    )
    opened.put(make_images(range(IMAGES)))
    if isinstance(index, AutoIndex):
        index.wait()
        assert not index.exact
    yield opened
    opened.close()


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    max_examples=40,
)
@given(changed=changes, where=wheres, seed=st.integers(0, 99), k=st.integers(1, 20))
def test_filtered_hits_are_those_of_comparing_all(
    library: Library,
    changed: list[tuple[str, int]],
    where: dict[str, Any],
    seed: int,
    k: int,
) -> None:
    for what, number in changed:
        if what == "delete":
            library.delete([make_id(number)])
        elif what == "put":
            library.put([make_image(number)])
        else:
            library.set_metadata(make_id(number), {"number": number, "tags": ["rare"]})
    (query,) = unit_vectors(1000 + seed, 1)
    (hits,) = library.search(query[None], k, parse_filter(where))
    records = library.page(limit=IMAGES).records
    matching = [
        each
        for each in records
        if parse_filter(where).matches(metadata_terms(each.metadata))
    ]
    scores = {
        each.id: float(each.embedding @ query / np.linalg.norm(each.embedding))
        for each in matching
    }
    expected = sorted(scores, key=lambda id_: -scores[id_])[:k]
    assert {hit.id for hit in hits} == set(expected)
    assert [hit.score for hit in hits] == pytest.approx(
        [scores[id_] for id_ in expected], abs=1e-5
    )
