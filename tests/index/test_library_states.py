"""Any sequence of calls, restarts and crashes leaves the library as a plain dictionary would be."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from index.library import open_library
from tests.index.samples import (
    EMBEDDING_SIZE,
    FINGERPRINT,
    TOKEN_SHAPE,
    kept_embedding,
    make_id,
    make_ids,
    make_image,
)

numbers = st.integers(0, 11)


class LibraryStates(RuleBasedStateMachine):
    @initialize(index=st.sampled_from(["auto", "numpy"]))
    def open_first(self, index: str) -> None:
        self.index = index
        self.base = Path(tempfile.mkdtemp())
        self.folder = self.base / "0"
        self.crashes = 0
        self.model: dict[
            int, dict[str, object]
        ] = {}  # metadata by image number, in the order they came
        self.open()

    def open(self) -> None:
        self.library = open_library(
            self.folder,
            fingerprint=FINGERPRINT,
            token_shape=TOKEN_SHAPE,
            embedding_size=EMBEDDING_SIZE,
            index=self.index,
        )

    @rule(batch=st.lists(numbers, max_size=5), mark=st.integers(0, 9))
    def put(self, batch: list[int], mark: int) -> None:
        stored = self.library.put(
            [make_image(n, metadata={"mark": mark, "n": n}) for n in batch]
        )
        for number, one in zip(batch, stored, strict=True):
            assert one.id == make_id(number)
            assert one.created == (number not in self.model)
            self.model.setdefault(number, {"mark": mark, "n": number})
            assert one.record.metadata == self.model[number]

    @rule(batch=st.lists(numbers, max_size=4))
    def delete(self, batch: list[int]) -> None:
        expected = [self.model.pop(number, None) is not None for number in batch]
        assert self.library.delete(make_ids(batch)) == expected

    @rule(number=numbers, k=st.integers(1, 15))
    def search(self, number: int, k: int) -> None:
        query = make_image(number).embedding
        (hits,) = self.library.search(query[None], k)
        scores = {make_id(n): float(kept_embedding(n) @ query) for n in self.model}
        assert len(hits) == min(k, len(self.model))
        assert len({hit.id for hit in hits}) == len(hits)
        assert all(abs(hit.score - scores[hit.id]) < 1e-5 for hit in hits)
        ranking = sorted(scores.values(), reverse=True)
        assert np.allclose([hit.score for hit in hits], ranking[: len(hits)], atol=1e-5)

    @rule(limit=st.integers(1, 5))
    def list_pages(self, limit: int) -> None:
        seen, cursor = [], None
        while True:
            page = self.library.page(cursor=cursor, limit=limit)
            seen += [record.id for record in page.records]
            cursor = page.next_cursor
            if cursor is None:
                break
        assert seen == make_ids(self.model)

    @rule()
    def reopen(self) -> None:
        self.library.close()
        self.open()

    @rule()
    def crash(self) -> None:
        """The files as they are on the disk at this moment, opened anew."""
        self.crashes += 1
        copy = self.base / str(self.crashes)
        shutil.copytree(self.folder, copy)
        self.library.close()
        self.folder = copy
        self.open()

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        known = self.library.find([make_image(n).sha256 for n in range(12)])
        assert [record is not None for record in known] == [
            n in self.model for n in range(12)
        ]
        stats = self.library.stats()
        assert stats.images == stats.index_vectors == len(self.model)

    def teardown(self) -> None:
        if hasattr(self, "library"):
            self.library.close()
            shutil.rmtree(self.base)


LibraryStates.TestCase.settings = settings(max_examples=40, stateful_step_count=25)
TestLibraryStates = LibraryStates.TestCase
