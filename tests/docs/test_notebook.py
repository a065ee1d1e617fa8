"""The notebook runs from its first cell to its last, with the default model."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.docs.blocks import ROOT

NOTEBOOK = ROOT / "docs" / "notebooks" / "rate-and-quality.ipynb"
LIMIT_S = 900  # of one cell


def test_it_is_kept_without_results() -> None:
    """They would be those of an earlier model."""
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        assert not cell.get("outputs")


@pytest.mark.model
def test_it_draws_rate_against_quality(tmp_path: Path) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    run_in = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=LIMIT_S, resources=run_in).execute()
    *_, table, plot = [
        cell.outputs for cell in notebook.cells if cell.cell_type == "code"
    ]
    printed = "".join(output.text for output in table if output.name == "stdout")
    byte_counts, shares = [], []
    for line in printed.splitlines():
        words = line.split()
        byte_counts.append(int(words[1]))
        shares.append(int(words[-1].rstrip("%")))
    assert byte_counts == sorted(byte_counts, reverse=True)
    assert (
        shares[0] >= 80
    )  # float16 is nearly exact, but two words may be equally likely
    assert any("image/png" in output.get("data", {}) for output in plot)
