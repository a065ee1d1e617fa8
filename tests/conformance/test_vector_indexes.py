"""Every vector index against the one suite."""

from __future__ import annotations

import faiss
import pytest

from index.errors import GpuMissing
from index.ports import VectorIndex
from index.registry import INDEXES, engine
from index.vectors.auto_index import AutoIndex
from index.vectors.flat_index import FlatIndex
from index.vectors.gpu_index import GpuIndex
from index.vectors.numpy_index import NumpyIndex
from tests.conformance.vector_index_suite import VectorIndexSuite
from tests.index.samples import EMBEDDING_SIZE


class TestNumpyIndex(VectorIndexSuite):
    def make(self, embedding_size: int = EMBEDDING_SIZE) -> VectorIndex:
        return NumpyIndex(embedding_size)


class TestFlatIndex(VectorIndexSuite):
    def make(self, embedding_size: int = EMBEDDING_SIZE) -> VectorIndex:
        return FlatIndex(embedding_size)


class TestAutoIndex(VectorIndexSuite):
    """Exact throughout."""

    def make(self, embedding_size: int = EMBEDDING_SIZE) -> VectorIndex:
        return AutoIndex(embedding_size)


class TestAutoIndexThatHasGrown(VectorIndexSuite):
    """Changes to an inverted file in the middle of most tests, whenever its build is done."""

    tolerance = 1e-2

    def make(self, embedding_size: int = EMBEDDING_SIZE) -> VectorIndex:
        return AutoIndex(embedding_size, exact_up_to=25)


class TestGpuIndexOnACpu(VectorIndexSuite):
    """The same code over FAISS's flat index on the CPU, which stands for the one on a GPU."""

    tolerance = 1e-5  # sums in another order

    def make(self, embedding_size: int = EMBEDDING_SIZE) -> VectorIndex:
        return GpuIndex(embedding_size, faiss.IndexFlatIP)


@pytest.mark.gpu
class TestGpuIndex(VectorIndexSuite):
    """Half precision."""

    tolerance = 1e-2

    def make(self, embedding_size: int = EMBEDDING_SIZE) -> VectorIndex:
        return GpuIndex(embedding_size)


@pytest.mark.skipif(hasattr(faiss, "StandardGpuResources"), reason="there may be a GPU")
def test_without_a_gpu_the_engine_says_so() -> None:
    with pytest.raises(GpuMissing, match="faiss-gpu"):
        engine(INDEXES, "faiss-gpu")(EMBEDDING_SIZE)
