"""`precis eval` as a person types it."""

from __future__ import annotations

from click.testing import CliRunner

from compressor.default_model.evaluation.cli import evaluate
from compressor.fwd2bot.baselines import Baseline


def test_a_baseline_goes_by_the_name_that_recipes_have() -> None:
    shown = CliRunner().invoke(evaluate, ["--help"], terminal_width=400).output
    names = "|".join(baseline.value for baseline in Baseline)
    assert f"--baseline [{names}]" in shown
