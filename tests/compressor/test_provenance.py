"""What a folder of trained parts tells of how they came to be."""

from __future__ import annotations

from pathlib import Path

import pytest

from compressor import artefact, provenance
from compressor.errors import ModelFilesInvalid
from tests.compressor.tiny import CONFIG, tiny_model

RUN = {"seed": 1, "steps": 100, "batch_size": 16, "reads": "summary tokens", "budgets": []}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    artefact.save(tiny_model(), tmp_path)
    return tmp_path


def test_runs_are_noted_in_order_and_a_resumed_one_once(folder: Path) -> None:
    assert provenance.recipes(folder) == []
    fingerprint = artefact.fingerprint(folder)
    longer, other = {**RUN, "steps": 150}, {**RUN, "seed": 2}
    for run in ({**RUN, "budgets": ()}, {**longer, "budgets": ()}, other):
        provenance.record(folder, CONFIG, run)
    assert provenance.recipes(folder) == [longer, other]
    card = (folder / provenance.CARD).read_text()
    assert f"| fingerprint | {fingerprint} |" in card
    assert "| 1 | 150 | 16 | summary tokens |\n| 2 | 100 | 16 | summary tokens |" in card
    assert artefact.fingerprint(folder) == fingerprint


def test_a_card_written_by_hand_stays(folder: Path) -> None:
    (folder / provenance.CARD).write_text("# Mine\n")
    provenance.record(folder, CONFIG, RUN)
    assert (folder / provenance.CARD).read_text() == "# Mine\n"
    assert provenance.recipes(folder) == [RUN]


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "{}",
        '{"format_version": 2, "runs": []}',
        '{"format_version": 1}',
        '{"format_version": 1, "runs": [{}]}',
    ],
)
def test_a_damaged_list_is_told_and_not_written_over(folder: Path, text: str) -> None:
    (folder / provenance.RECIPES).write_text(text)
    with pytest.raises(ModelFilesInvalid, match=provenance.RECIPES):
        provenance.record(folder, CONFIG, RUN)
    assert (folder / provenance.RECIPES).read_text() == text
