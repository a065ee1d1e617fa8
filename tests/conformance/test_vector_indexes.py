"""Every vector index against the one suite."""

from __future__ import annotations

from index.exact_index import ExactIndex
from index.faiss_index import FaissIndex
from index.growing_index import GrowingIndex
from index.ports import VectorIndex
from tests.conformance.vector_index_suite import VectorIndexSuite
from tests.index.samples import EMBEDDING_SIZE


class TestExactIndex(VectorIndexSuite):
    def make(self, embedding_size: int = EMBEDDING_SIZE) -> VectorIndex:
        return ExactIndex(embedding_size)


class TestFaissIndex(VectorIndexSuite):
    def make(self, embedding_size: int = EMBEDDING_SIZE) -> VectorIndex:
        return FaissIndex(embedding_size)


class TestGrowingIndex(VectorIndexSuite):
    """Exact throughout."""

    def make(self, embedding_size: int = EMBEDDING_SIZE) -> VectorIndex:
        return GrowingIndex(embedding_size)


class TestGrownIndex(VectorIndexSuite):
    """Changes to an inverted file in the middle of most tests, whenever its build is done."""

    tolerance = 1e-2

    def make(self, embedding_size: int = EMBEDDING_SIZE) -> VectorIndex:
        return GrowingIndex(embedding_size, exact_up_to=25)
