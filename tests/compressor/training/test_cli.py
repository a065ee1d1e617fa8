"""Adapters for an LVLM in a folder, trained from the command line and served."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from click.testing import CliRunner, Result

from compressor.fwd2bot import adapter_folder
from compressor.fwd2bot.load import load_production
from compressor.training.cli import lvlm
from compressor.training.config import TrainConfig
from tests.compressor.production import llava as small_llava
from tests.compressor.training.test_datasets import llava as instructions
from tests.conformance.summary_model_suite import pictures


def trained(tmp_path: Path, steps: int, summary_tokens: int = 4, more: str = "") -> Result:
    (tmp_path / "recipe.toml").write_text(
        f"steps = {steps}\nbatch_size = 2\nquestions_per_image = 2\nwarmup_steps = 1\ncheckpoint_every_steps = 1\n"
        f"max_cells = 0\nwords_weight = 0\n{more}"
    )
    folders = {name: str(tmp_path / name) for name in ("model", "adapters", "run", "images")}
    options = [part for name, folder in folders.items() for part in (f"--{name}", folder)]
    data = ["--data", str(tmp_path / "data.json"), "--recipe", str(tmp_path / "recipe.toml")]
    return CliRunner().invoke(lvlm, [*options, *data, "--summary-tokens", str(summary_tokens)])


def test_trained_resumed_and_served(tmp_path: Path) -> None:
    for part in small_llava():
        part.save_pretrained(tmp_path / "model")
    instructions(tmp_path)
    first = trained(tmp_path, steps=2)
    assert first.exit_code == 0, first.output
    before = adapter_folder.fingerprint(tmp_path / "adapters")
    again = trained(tmp_path, steps=3)
    assert again.exit_code == 0, again.output
    steps = [
        json.loads(line)["step"]
        for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    ]
    assert steps == [0, 1, 2]
    assert (tmp_path / "run" / "losses.png").exists()
    assert adapter_folder.fingerprint(tmp_path / "adapters") != before
    (told,) = adapter_folder.recipes(tmp_path / "adapters")
    assert TrainConfig(**told) == TrainConfig.read(tmp_path / "recipe.toml")
    assert (
        adapter_folder.fingerprint(tmp_path / "adapters")
        in (tmp_path / "adapters" / "README.md").read_text()
    )
    model, _ = load_production(tmp_path / "model", tmp_path / "adapters")
    assert model.tokens_shape == (4, 32)
    assert np.isfinite(model.compress(pictures()).tokens).all()


def test_what_is_wrong_is_told_in_one_line(tmp_path: Path) -> None:
    instructions(tmp_path)
    (tmp_path / "model").mkdir()
    result = trained(tmp_path, steps=2)
    assert result.exit_code == 1
    assert "no model in" in result.output
    assert not (tmp_path / "run").exists()


def test_budgets_of_the_recipe_are_served(tmp_path: Path) -> None:
    for part in small_llava():
        part.save_pretrained(tmp_path / "model")
    instructions(tmp_path)
    beyond = trained(tmp_path, steps=1, more="budgets = [2, 8]")
    assert beyond.exit_code == 1
    assert "a budget of 8 is more than the model's 4 summary tokens" in beyond.output
    done = trained(tmp_path, steps=1, more="budgets = [1, 2]")
    assert done.exit_code == 0, done.output
    model, _ = load_production(tmp_path / "model", tmp_path / "adapters")
    assert model.description.budgets == (1, 2, 4)
    larger = trained(tmp_path, steps=2, summary_tokens=8, more="budgets = [1, 2]")
    assert larger.exit_code == 1
    assert "holds 4 summary tokens, not 8" in " ".join(larger.output.split())
