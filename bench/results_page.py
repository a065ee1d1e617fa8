"""The page of results: every benchmark's figures in one table and one plot.

    make bench results                            measures, then writes the page
    python -m bench.results_page FOLDER           from the outputs kept in FOLDER

Each `*.log` of the folder is what a benchmark printed; its last line holds the figures. They may
come from several machines. Writes docs/results.md and docs/assets/results.png.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
from matplotlib.figure import Figure as Drawing

from bench.machine import Machine
from bench.measure import Figure, Result

ROOT = Path(__file__).parents[1]
OUTPUTS = ROOT / "bench" / "results"
PAGE, PLOT = Path("results.md"), Path("assets", "results.png")
INTRODUCTION = """\
# Results

What the benchmarks in `bench/` have measured; `bench/README.md` says what each of them does.
`make bench results` measures anew and writes this page. Alternatives are measured in turn, in one
run, and the figures are medians. A bar is what a figure has to reach; a figure without a bar is
there to compare with.
"""


def read(folder: Path) -> list[Result]:
    """The results kept in a folder, by name of the benchmark.

    Raises ValueError for a folder without results, a file without figures, and two files of the
    same benchmark.
    """
    results: dict[str, Result] = {}
    for path in sorted(folder.glob("*.log")):
        result = _last_line(path)
        if result.benchmark in results:
            raise ValueError(f"{path}: another file has {result.benchmark}, too")
        results[result.benchmark] = result
    if not results:
        raise ValueError(f"{folder} holds no outputs of benchmarks; run `make bench`")
    return [results[name] for name in sorted(results)]


def write(results: Sequence[Result], docs: Path) -> Path:
    """Writes the page and its plot into the folder of the documentation; returns the page."""
    page, plot = docs / PAGE, docs / PLOT
    machines = list(dict.fromkeys(result.machine for result in results))
    text = [
        INTRODUCTION,
        "## Figures",
        "",
        *_figures(results, machines),
        "",
    ]
    if any(figure.bar for result in results for figure in result.figures):
        plot.parent.mkdir(parents=True, exist_ok=True)
        draw(results, plot)
        text += [
            "Each figure beside its bar, which is 1. Further right is better.",
            "",
            f"![Figures beside their bars]({PLOT.as_posix()})",
            "",
        ]
    text += ["## Machines", "", *_machines(machines), ""]
    text += ["## Versions", "", *_versions(results), ""]
    page.write_text("\n".join(text), encoding="utf-8")
    return page


def draw(results: Sequence[Result], target: Path) -> None:
    """A bar for each figure that has one to reach: how many times it is reached."""
    reached = {
        f"{result.benchmark}: {figure.name}": figure
        for result in results
        for figure in result.figures
        if figure.bar
    }
    drawing = Drawing(figsize=(9, 1 + 0.35 * len(reached)), layout="constrained")
    axes = drawing.subplots()
    bars = axes.barh(
        list(reached),
        [times_reached(figure) - 1 for figure in reached.values()],
        left=1,  # bars grow from what is to be reached
        color=["C0" if figure.met else "C3" for figure in reached.values()],
    )
    labels = [f"{figure.text} ({figure.bar})" for figure in reached.values()]
    axes.bar_label(bars, labels, padding=3, fontsize="small")
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set(xscale="log", xlabel="times the bar")
    axes.xaxis.set_major_formatter("{x:g}")  # 10, not ten to the first power
    axes.margins(x=0.4)  # room for the labels
    # `barh` draws the first name at the bottom; readers expect it at the top, as in the table.
    axes.invert_yaxis()
    drawing.savefig(target, format="png")


def times_reached(figure: Figure) -> float:
    """How many times a figure reaches its bar, from 1/64 to 64; under 1 it misses it."""
    least, most = 1 / 64, 64.0
    if figure.at_least is not None:
        times = figure.value / figure.at_least
    elif figure.at_most is not None and figure.value > 0:
        times = figure.at_most / figure.value
    else:
        times = most
    return min(max(times, least), most)


def _last_line(path: Path) -> Result:
    lines = path.read_text(encoding="utf-8").splitlines()
    try:
        return Result.from_json(lines[-1] if lines else "")
    except ValueError as error:
        raise ValueError(f"{path}: its last line holds {error}") from error


def _figures(results: Sequence[Result], machines: Sequence[Machine]) -> list[str]:
    lines = [
        "| benchmark | figure | measured | bar | met | machine | on |",
        "|---|---|---|---|---|---|---|",
    ]
    for result in results:
        number = str(machines.index(result.machine) + 1)
        for figure in result.figures:
            met = "" if not figure.bar else "yes" if figure.met else "no"
            columns = [
                f"`{result.benchmark}`",
                f"`{figure.name}`",
                figure.text,
                figure.bar,
                met,
                number,
                result.measured_on.isoformat(),
            ]
            lines.append(f"| {' | '.join(columns)} |")
    return lines


def _machines(machines: Sequence[Machine]) -> list[str]:
    lines = [
        "| machine | processor | cores | memory, GB | system | accelerator |",
        "|---|---|---|---|---|---|",
    ]
    for number, machine in enumerate(machines, start=1):
        accelerator = machine.accelerator or "–"
        lines.append(
            f"| {number} | {machine.processor} | {machine.cores} | {machine.memory_gb} "
            f"| {machine.system} | {accelerator} |"
        )
    return lines


def _versions(results: Sequence[Result]) -> list[str]:
    """A row a package; several versions of one where benchmarks ran with several."""
    found: dict[str, dict[str, None]] = {}
    for result in results:
        for package, version in result.versions.items():
            found.setdefault(package, {})[version] = None
    rows = [f"| {package} | {', '.join(found[package])} |" for package in found]
    return ["| package | version |", "|---|---|", *rows]


@click.command(help=__doc__)
@click.argument(
    "folder",
    default=OUTPUTS,
    type=click.Path(path_type=Path, file_okay=False, exists=True),
)
def main(folder: Path) -> None:
    """Writes the page into docs/."""
    try:
        results = read(folder)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"wrote {write(results, ROOT / 'docs')}")


if __name__ == "__main__":
    main()
