"""The arithmetic of large libraries by hand, and its tables as docs/scaling.md shows them."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from bench.scaling import (
    MEMORIES_GIB,
    SIZES,
    Factors,
    default_model,
    factor_table,
    index,
    llava,
    main,
    memory_table,
    most_images,
    result_table,
    store,
    with_values,
)
from tests.docs.blocks import read

PAGE = "docs/scaling.md"
MILLION = 1_000_000


def test_the_page_shows_the_tables() -> None:
    page = read(PAGE)
    factors = Factors()
    for table in (
        factor_table(factors),
        result_table(factors, SIZES),
        memory_table(factors, MEMORIES_GIB),
    ):
        assert "\n".join(table) in page, "python -m bench.scaling prints them"


def test_hours_of_llava_by_hand() -> None:
    # 2 · (6.7e9 · 612 + 0.304e9 · 577) = 8.55e12 operations; 0.4 · 989e12 a second.
    costs = llava(Factors(), 100 * MILLION)
    assert costs.images_per_s == pytest.approx(46.26, abs=0.01)
    assert costs.hours == pytest.approx(600.5, abs=0.1)
    assert costs.for_a_week == 4
    assert costs.ingest_usd == pytest.approx(600.5 * 4.916, rel=1e-3)


def test_bytes_and_hours_of_the_default_model_by_hand() -> None:
    costs = default_model(Factors(), 1000 * MILLION)
    assert costs.images_per_s == pytest.approx(70 / 46 * 0.63 * 0.82)
    assert costs.stored_gb == pytest.approx(1035)
    assert costs.stored_usd_a_month == pytest.approx(1035 * 0.023)


def test_commits_by_hand() -> None:
    # 25 requests of 0.2 s are 5 s; a week has 120,960 commits of that length.
    costs = store(Factors(), 1000 * MILLION)
    assert costs.images_a_commit == 8_268
    assert costs.commits_usd == pytest.approx(120_960 * 25 * 0.000005)


def test_the_index_by_hand() -> None:
    costs = index(Factors(), 40 * MILLION)
    assert costs.memory_gb == pytest.approx(7.36)
    assert costs.growth_gb == pytest.approx(37.6)
    assert costs.search_ms == pytest.approx(2 * 0.46)  # √4


@given(st.floats(1, 4096))
def test_most_images_fill_the_memory(memory_gib: float) -> None:
    factors = Factors()
    images = most_images(factors, memory_gib)
    assert index(factors, images).growth_gb * 1e9 <= memory_gib * 2**30
    assert index(factors, images + 1).growth_gb * 1e9 >= memory_gib * 2**30 * 0.999


def test_values_of_your_own_take_the_place() -> None:
    factors = with_values(Factors(), ["gpu_hour_usd=2", "gpu_utilisation=0.8"])
    assert factors == replace(Factors(), gpu_hour_usd=2, gpu_utilisation=0.8)
    yours, cited = llava(factors, MILLION), llava(Factors(), MILLION)
    assert yours.hours == pytest.approx(cited.hours / 2)
    row = next(row for row in factor_table(factors) if "gpu_hour_usd" in row)
    assert row == "| `gpu_hour_usd` | 2 | yours |"


@pytest.mark.parametrize(
    "setting", ["gpus=3", "gpu_hour_usd", "gpu_hour_usd=x", "gpu_hour_usd=-1"]
)
def test_what_is_no_value_of_a_factor_is_refused(setting: str) -> None:
    with pytest.raises(click.BadParameter):
        with_values(Factors(), [setting])


@pytest.mark.parametrize("value", ["nan", "inf", "0"])
def test_a_factor_that_cannot_be_divided_by_is_refused(value: str) -> None:
    with pytest.raises(click.BadParameter, match="positive"):
        with_values(Factors(), [f"default_gflop={value}"])


def test_the_command_ends_with_json() -> None:
    shown = CliRunner().invoke(main, ["--images", "5000", "--set", "gpu_hour_usd=1"])
    assert shown.exit_code == 0, shown.output
    line = json.loads(shown.output.splitlines()[-1])
    assert set(line["factors"]) == {each.name for each in fields(Factors)}
    assert line["results"]["5000"]["index"]["memory_gb"] == pytest.approx(0.00092)
