"""What a hundred million and a billion images take: processors, hours, bytes and money.

Nothing is measured here. Each factor was measured by another command of this repository, or is
cited; `--set NAME=VALUE` puts your own in its place. Prints the factors and the results as
Markdown tables, which docs/scaling.md shows, and as one line of JSON.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from math import ceil, inf, sqrt
from typing import Any

import click

SIZES = (100_000_000, 1_000_000_000)
SECONDS_AN_HOUR = 3600
HOURS_A_WEEK = 7 * 24
HOURS_A_MONTH = 730
GB = 1e9
GIB = 2**30
GIGA = 1e9
TERA = 1e12
MEMORIES_GIB = (64, 256, 1024)  # of a replica


def factor(value: float, source: str) -> Any:
    """A field of Factors; `source` is who measured the value, or where it stands."""
    return field(default=value, metadata={"source": source})


@dataclass(frozen=True)
class Factors:
    """Everything that the arithmetic multiplies. Names end in their unit."""

    default_gflop: float = factor(
        46.0, "the first pass of one image, counted by `bench.ingest`"
    )
    core_gflop_per_s: float = factor(
        70.0,
        "float32 on two cores, halved (experiments.md); `bench.ingest` measures it",
    )
    default_utilisation: float = factor(
        0.63, "bare first pass over that rate, `bench.ingest`"
    )
    service_share: float = factor(
        0.82, "images through HTTP over the bare first pass, `bench.ingest`"
    )
    default_record_bytes: float = factor(
        1035, "SQLite, no picture, codec `mix16`, `bench.bytes`"
    )
    lvlm_parameters: float = factor(
        6.7e9, "LLaVA-1.5-7B's language model (arXiv 2310.03744)"
    )
    lvlm_tokens: float = factor(
        612, "576 of the image, 20 of the prompt, K = 16 (arXiv 2503.21757)"
    )
    tower_parameters: float = factor(
        0.304e9, "CLIP ViT-L/14 at 336 px (arXiv 2103.00020)"
    )
    tower_tokens: float = factor(577, "24 · 24 patches and the class token")
    gpu_tflop_per_s: float = factor(
        989, "NVIDIA's data sheet of the H100 SXM: bfloat16, dense"
    )
    gpu_utilisation: float = factor(
        0.4, "training on H100s reaches 0.38 to 0.43 (arXiv 2407.21783)"
    )
    lvlm_record_bytes: float = factor(
        4723, "the same, but 4,096 bytes of tokens (`pq256`, K = 16, D = 4096)"
    )
    thumbnail_bytes: float = factor(
        7626, "a WebP of at most 256 px, mean of 100 photographs, `bench.bytes`"
    )
    index_memory_bytes: float = factor(
        184, "a vector of 256 values, `bench.search_peers`"
    )
    index_growth_bytes: float = factor(
        940, "the same, at most, while the index is built, `bench.search_large`"
    )
    index_disk_bytes: float = factor(427, "the same in the snapshot, `bench.bytes`")
    search_ms_at_ten_million: float = factor(
        0.46, "median of one query, `bench.search_large`"
    )
    embedding_values: float = factor(256, "of the default model's embedding")
    commit_requests: float = factor(
        25, "requests of one commit to Lance, at most (storage.md)"
    )
    request_s: float = factor(0.2, "100 to 200 ms, Amazon S3's performance guidelines")
    gpu_hour_usd: float = factor(
        4.916, "an H100, EC2 Capacity Blocks, p5.48xlarge / 8, US East, end of 2024"
    )
    core_hour_usd: float = factor(
        0.0446, "a vCPU, EC2 on demand, c7i.48xlarge / 192, US East, 2025"
    )
    memory_gib_hour_usd: float = factor(
        0.00827, "EC2 on demand, r7i.48xlarge / 1,536, US East, 2025"
    )
    gb_month_usd: float = factor(0.023, "Amazon S3 Standard, US East, 2025")
    thousand_puts_usd: float = factor(0.005, "Amazon S3 Standard, US East, 2025")


def result(label: str) -> Any:
    """A field of a result, with its words in the table."""
    return field(metadata={"label": label})


@dataclass(frozen=True)
class Costs:
    """What one model takes for a number of images."""

    images_per_s: float = result("images a second on one")
    hours: float = result("hours on one")
    for_a_week: int = result("how many, to finish in a week")
    ingest_usd: float = result("US$ for these hours")
    stored_gb: float = result("GB stored, without pictures")
    stored_usd_a_month: float = result("US$ a month to store them")


@dataclass(frozen=True)
class StoreCosts:
    """What a library in an object store takes, whatever the model."""

    thumbnails_gb: float = result("GB of thumbnails, if kept")
    # Commits follow one another.
    images_a_commit: int = result("images in each commit, to finish in a week")
    commits_usd: float = result("US$ for the requests of a week's commits")


@dataclass(frozen=True)
class IndexCosts:
    """What the vector index of a replica takes, which holds all of it, whatever the model."""

    memory_gb: float = result("GB of memory")
    growth_gb: float = result("GB of memory during a build")
    snapshot_gb: float = result("GB on the local disk")
    memory_usd_a_month: float = result("US$ a month for the memory of a build")
    rebuild_core_hours: float = result("core hours of a build, at least")
    search_ms: float = result("ms for a search on one core")


def default_model(factors: Factors, images: int) -> Costs:
    """The default model, on cores."""
    rate = (
        factors.core_gflop_per_s
        / factors.default_gflop
        * factors.default_utilisation
        * factors.service_share
    )
    return _costs(
        factors, images, rate, factors.core_hour_usd, factors.default_record_bytes
    )


def llava(factors: Factors, images: int) -> Costs:
    """LLaVA-1.5-7B, on H100s. A multiplication and an addition for each parameter and token."""
    parameters_and_tokens = (
        factors.lvlm_parameters * factors.lvlm_tokens
        + factors.tower_parameters * factors.tower_tokens
    )
    tflop = 2 * parameters_and_tokens / TERA
    rate = factors.gpu_tflop_per_s * factors.gpu_utilisation / tflop
    return _costs(
        factors, images, rate, factors.gpu_hour_usd, factors.lvlm_record_bytes
    )


def _costs(
    factors: Factors, images: int, rate: float, hour_usd: float, record_bytes: float
) -> Costs:
    hours = images / rate / SECONDS_AN_HOUR
    stored_gb = images * record_bytes / GB
    return Costs(
        images_per_s=rate,
        hours=hours,
        for_a_week=ceil(hours / HOURS_A_WEEK),
        ingest_usd=hours * hour_usd,
        stored_gb=stored_gb,
        stored_usd_a_month=stored_gb * factors.gb_month_usd,
    )


def store(factors: Factors, images: int) -> StoreCosts:
    """A library in Lance on an object store, whose commits take turns."""
    commit_s = factors.commit_requests * factors.request_s
    commits = HOURS_A_WEEK * SECONDS_AN_HOUR / commit_s
    requests = commits * factors.commit_requests
    return StoreCosts(
        thumbnails_gb=images * factors.thumbnail_bytes / GB,
        images_a_commit=ceil(images / commits),
        commits_usd=requests / 1000 * factors.thousand_puts_usd,
    )


def index(factors: Factors, images: int) -> IndexCosts:
    """The vector index in the memory of one replica.

    For M vectors it has √(2·M) lists. A search compares the query with the centres of the lists
    and with the codes of a few of them, so that its time goes with √M.
    """
    growth_gb = images * factors.index_growth_bytes / GB
    lists = sqrt(2 * images)
    assignment_gflop = 2 * factors.embedding_values * images * lists / GIGA
    core_seconds = assignment_gflop / factors.core_gflop_per_s
    memory_gib = growth_gb * GB / GIB
    return IndexCosts(
        memory_gb=images * factors.index_memory_bytes / GB,
        growth_gb=growth_gb,
        snapshot_gb=images * factors.index_disk_bytes / GB,
        memory_usd_a_month=memory_gib * factors.memory_gib_hour_usd * HOURS_A_MONTH,
        rebuild_core_hours=core_seconds / SECONDS_AN_HOUR,
        search_ms=factors.search_ms_at_ten_million * sqrt(images / 10_000_000),
    )


PARTS: dict[str, Callable[[Factors, int], Any]] = {
    "default model, CPU cores": default_model,
    "LLaVA-1.5-7B, H100s": llava,
    "object store": store,
    "index in each replica": index,
}


def most_images(factors: Factors, memory_gib: float) -> int:
    """How many images a replica with so much memory holds, the growth of its index included."""
    return int(memory_gib * GIB / factors.index_growth_bytes)


def with_values(factors: Factors, settings: Iterable[str]) -> Factors:
    """The factors with those given as NAME=VALUE. Raises click.BadParameter for any other."""
    known = {each.name for each in fields(Factors)}
    for setting in settings:
        name, _, value = setting.partition("=")
        if name not in known:
            raise click.BadParameter(f"there is no factor {name!r}")
        try:
            number = float(value)
        except ValueError as error:
            raise click.BadParameter(f"{value!r} is no number") from error
        if not 0 < number < inf:
            raise click.BadParameter(f"{name} must be positive and finite")
        factors = replace(factors, **{name: number})
    return factors


def factor_table(factors: Factors) -> list[str]:
    """Lines of Markdown: each factor with its source."""
    rows = ["| factor | value | measured by, or cited |", "|---|---:|---|"]
    for each in fields(Factors):
        value = getattr(factors, each.name)
        source = each.metadata["source"]
        if value != each.default:
            source = "yours"
        rows.append(f"| `{each.name}` | {value:,.6g} | {source} |")
    return rows


def result_table(factors: Factors, sizes: Sequence[int]) -> list[str]:
    """Lines of Markdown: a column a number of images."""
    heads = " | ".join(f"{size:,} images" for size in sizes)
    rows = [f"| | {heads} |", "|---|" + "---:|" * len(sizes)]
    for part, compute in PARTS.items():
        columns = [compute(factors, size) for size in sizes]
        for each in fields(columns[0]):
            cells = " | ".join(_shown(getattr(column, each.name)) for column in columns)
            rows.append(f"| {part}: {each.metadata['label']} | {cells} |")
    return rows


def memory_table(factors: Factors, memories_gib: Sequence[int]) -> list[str]:
    """Lines of Markdown: how many images a replica holds before the index must be divided."""
    rows = ["| memory of a replica | images |", "|---:|---:|"]
    for memory_gib in memories_gib:
        images = most_images(factors, memory_gib)
        rows.append(f"| {memory_gib:,} GiB | {images / 1e6:,.0f} million |")
    return rows


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:,.3g}"


@click.command()
@click.option("--images", multiple=True, type=click.IntRange(1), default=SIZES)
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE")
def main(images: Sequence[int], settings: Sequence[str]) -> None:
    """Print what so many images take."""
    factors = with_values(Factors(), settings)
    tables = (
        factor_table(factors),
        result_table(factors, images),
        memory_table(factors, MEMORIES_GIB),
    )
    for table in tables:
        click.echo("\n".join(table) + "\n")
    results = {
        str(size): {
            compute.__name__: asdict(compute(factors, size))
            for compute in PARTS.values()
        }
        for size in images
    }
    line = {"benchmark": "scaling", "factors": asdict(factors), "results": results}
    click.echo(json.dumps(line))


if __name__ == "__main__":
    main()
