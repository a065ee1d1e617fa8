"""What a folder of trained parts tells of how they came to be."""

from __future__ import annotations

from pathlib import Path

import pytest

from compressor.errors import ModelFilesInvalid
from compressor.fwd2bot import adapter_folder
from tests.compressor.tiny import CONFIG, tiny_model

RUN = {
    "seed": 1,
    "steps": 100,
    "batch_size": 16,
    "second_pass_input": "summary tokens",
    "budgets": [],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    adapter_folder.save(tiny_model(), tmp_path)
    return tmp_path


def test_runs_are_noted_in_order_and_a_resumed_one_once(folder: Path) -> None:
    assert adapter_folder.recipes(folder) == []
    fingerprint = adapter_folder.fingerprint(folder)
    longer, other = {**RUN, "steps": 150}, {**RUN, "seed": 2}
    for run in ({**RUN, "budgets": ()}, {**longer, "budgets": ()}, other):
        adapter_folder.record(folder, CONFIG, run)
    assert adapter_folder.recipes(folder) == [longer, other]
    card = (folder / adapter_folder.CARD).read_text()
    assert f"| fingerprint | {fingerprint} |" in card
    assert (
        "| 1 | 150 | 16 | summary tokens |\n| 2 | 100 | 16 | summary tokens |" in card
    )
    assert adapter_folder.fingerprint(folder) == fingerprint


def test_a_card_written_by_hand_stays(folder: Path) -> None:
    (folder / adapter_folder.CARD).write_text("# Mine\n")
    adapter_folder.record(folder, CONFIG, RUN)
    assert (folder / adapter_folder.CARD).read_text() == "# Mine\n"
    assert adapter_folder.recipes(folder) == [RUN]


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
    (folder / adapter_folder.RECIPES).write_text(text)
    with pytest.raises(ModelFilesInvalid, match=adapter_folder.RECIPES):
        adapter_folder.record(folder, CONFIG, RUN)
    assert (folder / adapter_folder.RECIPES).read_text() == text
