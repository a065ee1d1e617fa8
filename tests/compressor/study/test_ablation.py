"""A whole study of a model small enough for a test: resumed, finished, never run twice."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from compressor.evaluation.folder import Figure
from compressor.study import page
from compressor.study.ablation import RECORD, OutOfTime, Record, Run, Study, runs_of
from compressor.study.cells import CELLS
from compressor.study.cli import study
from compressor.study.measure import EXACT, FIGURES, LOSS, RECALL, drawn_questions
from compressor.training.config import TrainConfig
from compressor.training.datasets import read
from tests.compressor.training.samples import logged
from tests.compressor.training.test_cli import researchers_folder

STEPS = 2
RECIPE = """
batch_size = 8
lora_rank = 2
embedding_size = 8
save_every = 1
warmup_steps = 1
workers = 0
"""
CELL_NAMES = [cell.name for cell in CELLS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, images with a caption and two questions each, another such folder, a recipe."""
    folder = researchers_folder(tmp_path_factory.mktemp("studied"))
    captions = folder / "captions"
    lines = []
    for line in (captions / "index.jsonl").read_text().splitlines():
        record = json.loads(line)
        record["questions"] = [["What is it?", "A square."], ["Is it?", "Yes."]]
        lines.append(json.dumps(record) + "\n")
    (captions / "index.jsonl").write_text("".join(lines))
    (folder / "held-out").mkdir()
    (folder / "held-out" / "images").symlink_to(captions / "images")
    (folder / "held-out" / "index.jsonl").write_text("".join(lines[:3]))
    (folder / "recipe.toml").write_text(RECIPE)
    return folder


def studied(folder: Path, run: Path, *options: str) -> Result:
    paths = {
        "--model": folder / "model",
        "--data": folder / "captions",
        "--held-out": folder / "held-out",
        "--recipe": folder / "recipe.toml",
        "--run": run,
    }
    arguments = [part for name, path in paths.items() for part in (name, str(path))]
    budget = ["--budget-steps", str(STEPS)]
    return CliRunner().invoke(study, ["ablation", *arguments, *budget, *options])


def a_run(folder: Path, target: Path, name: str, recipe: str = "") -> Run:
    (target / "recipe.toml").write_text(f"{RECIPE}steps = {STEPS}\n{recipe}")
    common = Study(
        folder / "model",
        [read(folder / "captions", folder)],
        (),
        drawn_questions(read(folder / "held-out", folder).entries, 1),
        TrainConfig.read(target / "recipe.toml"),
        target,
    )
    cell = CELLS[CELL_NAMES.index(name)]
    return runs_of(common, [cell], 1)[0]


@pytest.fixture(scope="module")
def whole(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study of all cells with one seed."""
    run = tmp_path_factory.mktemp("whole")
    result = studied(folder, run, "--seeds", "1")
    assert result.exit_code == 0, result.output
    assert "16 runs; 0 are not finished" in result.output
    return run


@pytest.mark.parametrize("name", CELL_NAMES)
def test_every_cell_is_trained_and_measured(whole: Path, name: str) -> None:
    run = whole / f"{name}-seed1"
    assert [line["step"] for line in logged(run)] == list(range(STEPS))
    record = Record.load(run / RECORD)
    reads_summary = record.identity["recipe"]["second_pass_input"] == "summary tokens"
    expected = [name for name in FIGURES if reads_summary or "to image" not in name]
    assert set(expected) <= set(record.figures)
    assert (RECALL.format("caption to image, R@1") in record.figures) == reads_summary
    assert record.samples == 8 * STEPS
    assert record.figures[EXACT].count == 6
    assert all(math.isfinite(figure.value) for figure in record.figures.values())
    assert record.values > 0


def test_what_a_cell_keeps_of_an_image(whole: Path) -> None:
    """D = 32; two layers of four key-value heads of 8 numbers, keys and values."""
    values = {
        name: Record.load(whole / f"{name}-seed1" / RECORD).values
        for name in ("reference", "k-4", "k-16", "single-forward", "mean-pooling")
    }
    assert values == {
        "reference": 8 * 32,
        "k-4": 4 * 32,
        "k-16": 16 * 32,
        "single-forward": 8 * 2 * 2 * 16,
        "mean-pooling": 8 * 32,
    }


def test_the_page_has_a_row_a_cell_and_a_plot(whole: Path) -> None:
    text = (whole / "ablation.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) == 1 + len(CELLS)
    baseline = next(row for row in rows if "all visual tokens" in row)
    assert baseline.count("–") == 2  # nothing that a text could find
    assert (whole / "ablation.png").read_bytes().startswith(b"\x89PNG")


def test_finished_runs_are_skipped_and_a_page_keeps_its_text(
    folder: Path, whole: Path, tmp_path: Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in whole.glob("*/*.json*")}
    target = tmp_path / "page.md"
    target.write_text(f"# Mine\n\n{page.START}\nold\n{page.END}\n\nThe end.\n")
    result = studied(folder, whole, "--seeds", "1", "--page", str(target))
    assert result.exit_code == 0, result.output
    assert result.output.count("finished before") == len(CELLS)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    text = target.read_text()
    assert text.startswith("# Mine\n\n")
    assert text.endswith("\n\nThe end.\n")
    assert "old" not in text
    assert "| reference: Fwd2Bot | 1 |" in text


def test_other_settings_do_not_mix_with_finished_runs(
    folder: Path, whole: Path
) -> None:
    result = studied(folder, whole, "--seeds", "1", "--questions", "1")
    assert result.exit_code == 1
    assert "is of another held-out data" in result.output
    assert "Traceback" not in result.output


def test_a_run_goes_on_where_its_time_was_over(folder: Path, tmp_path: Path) -> None:
    """One step, then the rest: the record is that of a run in one go."""
    in_one_go, resumed = tmp_path / "one", tmp_path / "two"
    for target in (in_one_go, resumed):
        target.mkdir()
    run = a_run(folder, in_one_go, "reference")
    assert len(list(run.finish(math.inf))) == STEPS

    run = a_run(folder, resumed, "reference")
    ticks = iter([0.0, 1.0])
    steps = run.finish(1.0, clock=lambda: next(ticks))
    next(steps)
    with pytest.raises(OutOfTime):
        next(steps)
    assert run.record() is None
    assert [log.step for log in run.finish(math.inf)] == list(range(1, STEPS))
    record = run.record()
    expected = a_run(folder, in_one_go, "reference").record()
    assert record is not None
    assert expected is not None
    assert record.figures == expected.figures


@pytest.mark.parametrize("name", ["reference", "single-forward"])
def test_half_precision(folder: Path, tmp_path: Path, name: str) -> None:
    """What the recipes of the default model ask for; what is trained stays in float32."""
    run = a_run(folder, tmp_path, name, 'dtype = "bfloat16"\n')
    assert len(list(run.finish(math.inf))) == STEPS
    record = run.record()
    assert record is not None
    assert math.isfinite(record.figures[LOSS].value)


def test_no_time_is_no_error(folder: Path, tmp_path: Path) -> None:
    options = ("--cell", "reference", "--budget-seconds", "0")
    result = studied(folder, tmp_path, *options)
    assert result.exit_code == 0, result.output
    assert "The time is over" in result.output
    assert "No run is finished yet." in (tmp_path / "ablation.md").read_text()


def test_seeds_start_and_go_differently(folder: Path, tmp_path: Path) -> None:
    result = studied(folder, tmp_path, "--cell", "reference")
    assert result.exit_code == 0, result.output
    one, other = (
        Record.load(tmp_path / f"reference-seed{seed}" / RECORD) for seed in (1, 2)
    )
    assert one.figures[LOSS] != other.figures[LOSS]
    assert "| reference: Fwd2Bot | 2 |" in (tmp_path / "ablation.md").read_text()


def test_a_run_that_stops_leaves_the_others(folder: Path, tmp_path: Path) -> None:
    """A file is in the way of the first run's checkpoint."""
    (tmp_path / "reference-seed1").mkdir()
    (tmp_path / "reference-seed1" / "checkpoint.tmp").touch()
    cells = ("--cell", "reference", "--cell", "k-4")
    result = studied(folder, tmp_path, *cells, "--seeds", "1")
    assert result.exit_code == 1
    assert "reference, seed 1: " in result.output.splitlines()[-1]
    assert "the checkpoint of step 1 cannot be written" in result.output
    text = (tmp_path / "ablation.md").read_text()
    assert "| reference: Fwd2Bot | 0 |" in text
    assert "| tokens: K = 4 | 1 |" in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--recipe", "{bad}"), "its cells decide them"),
        (("--page", "{page}"), "has no lines"),
        (("--data", "{held}"), "cannot be trained on"),
    ],
)
def test_mistakes_are_told_before_anything_runs(
    folder: Path, tmp_path: Path, options: tuple[str, str], message: str
) -> None:
    (tmp_path / "bad.toml").write_text(RECIPE + "token_count = 3\n")
    (tmp_path / "page.md").write_text("# Another page\n")
    places = {
        "{bad}": tmp_path / "bad.toml",
        "{page}": tmp_path / "page.md",
        "{held}": folder / "held-out",
    }
    name, value = options
    result = studied(folder, tmp_path / "run", name, str(places[value]))
    assert result.exit_code == 1
    assert message in result.output
    assert not (tmp_path / "run").exists()


def test_a_margin_has_images_and_seeds_in_it() -> None:
    alone = page.over_seeds([Figure(10.0, 8.0, 12.0, 100)])
    assert (alone.value, alone.margin) == (10.0, 2.0)
    both = page.over_seeds(
        [Figure(10.0, 8.0, 12.0, 100), Figure(14.0, 12.0, 16.0, 100)]
    )
    assert both.value == 12.0
    # Variance 8 over two seeds, halved for their mean, beside the images' 2.
    assert both.margin == pytest.approx(math.sqrt(2.0**2 + 1.96**2 * 4))
