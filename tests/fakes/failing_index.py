"""A vector index that fails on demand, for tests of what the library does then."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from index.vectors.numpy_index import NumpyIndex


class FailingIndex(NumpyIndex):
    """The exact index, but its next change raises MemoryError once `fail` is set."""

    fail = False

    def add(self, rows: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        self._maybe_fail()
        super().add(rows, vectors)

    def remove(self, rows: NDArray[np.int64]) -> int:
        self._maybe_fail()
        return super().remove(rows)

    def save(self, path: Path) -> None:
        self._maybe_fail()
        super().save(path)

    def _maybe_fail(self) -> None:
        if self.fail:
            self.fail = False
            raise MemoryError("failed on demand")
