"""The export that most tests of exports begin with."""

from __future__ import annotations

from pathlib import Path

import pytest

from index.exports import writer
from index.exports.writer import ExportProgress
from tests.index.exports.exporting import exported, fill


@pytest.fixture
def export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An export of ten images, four in a shard."""
    monkeypatch.setattr(writer, "_SHARD_IMAGES", 4)
    data = fill(tmp_path / "data", range(10))
    assert exported(data, tmp_path / "export") == ExportProgress(10, 0, 10)
    return tmp_path / "export"
