"""The page of results, from lines as benchmarks end with them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bench.machine import Machine, this_machine, versions
from bench.measure import Figure, Result
from bench.results_page import main, read, times_reached, write

LAPTOP = Machine(
    processor="A Processor",
    cores=2,
    memory_gb=8,
    system="Linux x86_64",
    accelerator=None,
)
CARD = replace(LAPTOP, cores=16, accelerator="A Card, torch.bfloat16")
ASK = Result(
    benchmark="ask",
    measured_on=date(2026, 11, 28),
    figures=(
        Figure("first_token_ms", 41.26),
        Figure("uncompressed_over_stored", 6.5, at_least=5),
        Figure("memory_gb", 1.2, at_most=0.9),
    ),
    machine=LAPTOP,
    versions={"python": "3.11.9", "torch": "2.9.0"},
)
GPU = Result(
    benchmark="gpu",
    measured_on=date(2026, 11, 29),
    figures=(Figure("tokens_per_s", 12345.6),),
    machine=CARD,
    versions={"python": "3.11.9", "torch": "2.10.0"},
)


def keep(folder: Path, *results: Result) -> Path:
    """Outputs of benchmarks as `make bench` keeps them."""
    folder.mkdir(exist_ok=True)
    for result in results:
        lines = ["a table", "of several lines", result.to_json(), ""]
        (folder / f"{result.benchmark}.log").write_text("\n".join(lines))
    return folder


def rows(page: Path, heading: str) -> list[list[str]]:
    """The rows of the table under a heading, without the two of its head."""
    _, _, text = page.read_text().partition(f"## {heading}\n")
    lines = text.partition("\n## ")[0].splitlines()
    table = [line for line in lines if line.startswith("|")]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table[2:]]


def written(tmp_path: Path, results: Sequence[Result]) -> Path:
    (tmp_path / "docs").mkdir()
    return write(results, tmp_path / "docs")


finite = st.floats(allow_nan=False, allow_infinity=False)
bars = st.none() | st.floats(min_value=1e-3, max_value=1e6)


@given(st.lists(st.builds(Figure, st.text(), finite, bars, bars), unique_by=str))
def test_a_line_gives_back_what_was_measured(figures: list[Figure]) -> None:
    by_name = {figure.name: figure for figure in figures}
    result = replace(ASK, figures=tuple(by_name.values()))
    assert Result.from_json(result.to_json()) == result


def test_a_line_names_this_machine_and_its_versions() -> None:
    result = replace(ASK, machine=this_machine(), versions=versions())
    line = json.loads(result.to_json())
    assert line["machine"]["processor"]
    assert line["machine"]["cores"] >= 1
    assert line["machine"]["memory_gb"] >= 1
    assert line["machine"]["accelerator"] is None
    assert {"python", "numpy", "torch"} <= line["versions"].keys()


def test_every_figure_has_a_row(tmp_path: Path) -> None:
    page = written(tmp_path, read(keep(tmp_path / "outputs", GPU, ASK)))
    on = "2026-11-28"
    assert rows(page, "Figures") == [
        ["`ask`", "`first_token_ms`", "41.3", "", "", "1", on],
        ["`ask`", "`uncompressed_over_stored`", "6.5", "at least 5", "yes", "1", on],
        ["`ask`", "`memory_gb`", "1.2", "at most 0.9", "no", "1", on],
        ["`gpu`", "`tokens_per_s`", "12,346", "", "", "2", "2026-11-29"],
    ]


def test_the_page_tells_machines_and_versions(tmp_path: Path) -> None:
    page = written(tmp_path, [ASK, GPU])
    processor = "A Processor"
    assert rows(page, "Machines") == [
        ["1", processor, "2", "8", "Linux x86_64", "–"],
        ["2", processor, "16", "8", "Linux x86_64", "A Card, torch.bfloat16"],
    ]
    assert rows(page, "Versions") == [
        ["python", "3.11.9"],
        ["torch", "2.9.0, 2.10.0"],
    ]


def test_the_plot_lies_beside_the_page_and_grows_with_the_bars(tmp_path: Path) -> None:
    page = written(tmp_path, [ASK])
    plot = page.parent / "assets" / "results.png"
    assert f"]({plot.relative_to(page.parent).as_posix()})" in page.read_text()
    with Image.open(plot) as picture:
        height = picture.height
    write([ASK, replace(ASK, benchmark="again")], page.parent)
    with Image.open(plot) as picture:
        assert picture.height > height


def test_figures_without_bars_need_no_plot(tmp_path: Path) -> None:
    page = written(tmp_path, [GPU])
    assert "![" not in page.read_text()
    assert not (page.parent / "assets").exists()


@pytest.mark.parametrize(
    ("figure", "times"),
    [
        (Figure("rate", 10, at_least=5), 2),
        (Figure("rate", 1, at_least=5), 0.2),
        (Figure("time", 4, at_most=2), 0.5),
        (Figure("rate", 0, at_least=5), 1 / 64),
        (Figure("time", 0, at_most=2), 64),
        (Figure("rate", 1e9, at_least=5), 64),
    ],
)
def test_times_a_bar_is_reached(figure: Figure, times: float) -> None:
    assert times_reached(figure) == pytest.approx(times)


@pytest.mark.parametrize(
    "text", ["", "a table\n", "{}", "[]", "3", '{"benchmark": "ask"}']
)
def test_an_output_without_figures_is_named(tmp_path: Path, text: str) -> None:
    folder = keep(tmp_path / "outputs", GPU)
    (folder / "ask.log").write_text(text)
    result = CliRunner().invoke(main, [str(folder)])
    assert result.exit_code == 1
    assert "ask.log" in result.output


def test_a_benchmark_measured_twice_is_refused(tmp_path: Path) -> None:
    folder = keep(tmp_path / "outputs", ASK)
    (folder / "before.log").write_text(ASK.to_json())
    with pytest.raises(ValueError, match="another file has ask"):
        read(folder)


def test_a_folder_without_outputs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="make bench"):
        read(tmp_path)
