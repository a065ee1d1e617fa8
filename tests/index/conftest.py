"""Small libraries of tests keep snapshots, as large ones do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="session")
def _snapshots_of_small_indexes() -> Iterator[None]:
    patch = pytest.MonkeyPatch()
    patch.setattr("index.vectors.snapshot.SAVE_FROM_VECTORS", 0)
    yield
    patch.undo()
