"""`precis eval` over a small LVLM in a folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from compressor.evaluation.cli import evaluate
from tests.compressor.training.test_cli import researchers_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, and images with a caption and two questions each."""
    folder = researchers_folder(tmp_path_factory.mktemp("evaluated"))
    index = folder / "captions" / "index.jsonl"
    lines = []
    for number, line in enumerate(index.read_text().splitlines()):
        record = json.loads(line)
        if number:
            record["queries"] = ["square"]
        record["questions"] = [["What is it?", "A square."], ["Is it?", "Yes."]]
        lines.append(json.dumps(record) + "\n")
    index.write_text("".join(lines))
    return folder


def evaluated(folder: Path, *options: str) -> Result:
    arguments = ["--model", folder / "model", "--data", folder / "captions"]
    return CliRunner().invoke(
        evaluate, [*map(str, arguments), "--limit", "3", *options]
    )


def test_figures_and_answers(folder: Path, tmp_path: Path) -> None:
    result = evaluated(folder, "--answers", str(tmp_path / "answers.jsonl"))
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout.splitlines()[-1])
    assert figures["all questions, exact"]["of"] == 6
    assert figures["description, CIDEr-D"]["of"] == 3
    assert figures["query to image, R@1"]["of"] == 2
    assert set(figures["caption to image, R@10"]) == {"value", "low", "high", "of"}
    lines = (tmp_path / "answers.jsonl").read_text().splitlines()
    kinds = [json.loads(line)["kind"] for line in lines]
    assert kinds.count("description") == 3
    assert len(kinds) == 9


def test_the_ceiling_has_no_recall(folder: Path) -> None:
    """All visual tokens are never stored, so there is nothing to find them by."""
    result = evaluated(folder, "--reads", "all visual tokens")
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout.splitlines()[-1])
    assert "all questions, exact" in figures
    assert not any(" to image" in name for name in figures)


def test_a_folder_that_holds_no_data_is_refused(folder: Path, tmp_path: Path) -> None:
    arguments = ["--model", str(folder / "model"), "--data", str(tmp_path)]
    result = CliRunner().invoke(evaluate, arguments)
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
    assert len(result.output.splitlines()) == 1
