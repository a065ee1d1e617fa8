"""Looking at folders of trained parts, sound and damaged."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file, save_file

from compressor.default_model import build
from compressor.fwd2bot import adapter_folder
from compressor.fwd2bot.adapter_folder import adapters
from tests.compressor.tiny import CONFIG, tiny_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    adapter_folder.save(tiny_model(), tmp_path / "parts")
    return tmp_path / "parts"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(adapters, list(map(str, arguments)))


def test_show_ends_with_the_settings_and_the_fingerprint(folder: Path) -> None:
    result = run("show", folder)
    assert result.exit_code == 0, result.output
    told = json.loads(result.output.splitlines()[-1])
    assert told["fingerprint"] == adapter_folder.fingerprint(folder)
    assert told["token_count"] == 8
    assert told["mode"] == "adapters"
    assert told["budgets"] == []
    assert told["codec"] is None
    assert "first_pass" in result.output
    assert (
        "Mode: adapters. Summary tokens of an image that may be kept: 8."
        in result.output
    )


def test_show_tells_the_budgets(folder: Path) -> None:
    replace(CONFIG, budgets=(2, 4, 8)).save(folder)
    result = run("show", folder)
    assert "may be kept: 2 or 4 or 8." in result.output
    assert json.loads(result.output.splitlines()[-1])["budgets"] == [2, 4, 8]


def test_show_tells_the_recipes(folder: Path) -> None:
    assert json.loads(run("show", folder).output.splitlines()[-1])["recipes"] == []
    adapter_folder.record(
        folder,
        CONFIG,
        {"steps": 9, "batch_size": 4, "second_pass_input": "summary tokens"},
    )
    result = run("show", folder)
    assert "Trained for 9 steps of 4 images" in result.output
    assert [
        each["steps"] for each in json.loads(result.output.splitlines()[-1])["recipes"]
    ] == [9]


def test_the_shipped_parts_are_sound() -> None:
    result = run("verify", build.WEIGHTS)
    assert result.exit_code == 0, result.output
    assert adapter_folder.fingerprint(build.WEIGHTS) in result.output


def test_damage_is_told(folder: Path) -> None:
    def told() -> str:
        result = run("verify", folder)
        assert result.exit_code == 1, result.output
        return result.output

    assert run("verify", folder).exit_code == 0
    (folder / "optimizer.pt").write_bytes(b"")
    assert "pickles" in told()
    (folder / "optimizer.pt").unlink()
    weights = folder / "first_pass" / "adapter_model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-10])
    assert "cannot be read" in told()
    weights.write_bytes(whole)
    state = load_file(weights)
    save_file(
        {
            **state,
            next(iter(state)): torch.full_like(
                next(iter(state.values())), float("nan")
            ),
        },
        weights,
    )
    assert "NaN" in told()
    weights.write_bytes(whole)
    shutil.move(folder / "second_pass", folder / "gone")
    assert "missing" in told()
    shutil.move(folder / "gone", folder / "second_pass")
    settings = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps({**settings, "token_count": 16}))
    assert "8 summary tokens, not 16" in told()


def test_another_base_model_is_told(folder: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text('{"model_type": "other"}')
    save_file({"weight": torch.zeros(1)}, base / "model.safetensors")
    result = run("verify", folder, "--model", base)
    assert result.exit_code == 1
    assert "belongs to the base model tiny, not to other@" in " ".join(
        result.output.split()
    )
