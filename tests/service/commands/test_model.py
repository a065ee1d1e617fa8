"""`precis model build` exports the passes for the engines that the settings name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from compressor.fwd2bot.generator import LvlmGenerator
from compressor.fwd2bot.onnx_engine.folder import MANIFEST
from compressor.fwd2bot.onnx_engine.generator import OnnxGenerator
from compressor.fwd2bot.summary_model import LvlmSummaryModel
from service.models import MODELS, Models, _on_engines
from service.settings import Settings
from tests.conformance.tiny_lvlm import tiny_lvlm
from tests.service.commands.conftest import Precis


@pytest.fixture
def tiny(precis: Precis, monkeypatch: pytest.MonkeyPatch) -> Precis:
    """Runs `precis` with a tiny LVLM as the model."""

    def factory(settings: Settings) -> Models:
        return Models(*_on_engines(settings, *tiny_lvlm(hidden_size=256)))

    monkeypatch.setitem(MODELS, "tiny", factory)
    monkeypatch.setenv("PRECIS_MODEL", "tiny")
    return precis


def test_torch_needs_no_export(
    tiny: Precis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRECIS_FIRST_PASS_ENGINE", "torch")
    monkeypatch.setenv("PRECIS_SECOND_PASS_ENGINE", "torch")
    result = tiny("model", "build", tmp_path)
    assert result.exit_code == 0, result.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("engine", "precision"), [("auto", "int8"), ("onnx", "float32")]
)
def test_the_service_runs_what_was_exported(
    engine: str,
    precision: str,
    tiny: Precis,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PRECIS_SECOND_PASS_ENGINE", engine)
    result = tiny("model", "build", tmp_path)
    assert result.exit_code == 0, result.output
    folders = sorted(tmp_path.iterdir())
    # Transformers shows its progress there too.
    said = [line for line in result.stderr.splitlines() if line.startswith("Exported")]
    assert said == [f"Exported for ONNX Runtime: {folder}" for folder in folders]
    assert result.stdout == ""
    assert [folder.name.split("-")[0] for folder in folders] == ["first", "second"]
    assert all((folder / MANIFEST).exists() for folder in folders)
    models = MODELS["tiny"](Settings(model_dir=tmp_path))
    assert isinstance(models.summary, LvlmSummaryModel)
    assert not models.summary.runs_in_torch
    assert models.summary.embed_text(["what ?"]).shape == (1, 16)
    assert isinstance(models.generator, OnnxGenerator)
    assert models.generator.precision == precision
    in_torch = MODELS["tiny"](
        Settings(
            model_dir=tmp_path, first_pass_engine="torch", second_pass_engine="torch"
        )
    )
    assert isinstance(in_torch.summary, LvlmSummaryModel)
    assert in_torch.summary.runs_in_torch
    assert isinstance(in_torch.generator, LvlmGenerator)


def test_a_pass_without_an_export_is_left_to_pytorch(
    precis: Precis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def factory(settings: Settings) -> Models:
        # Attention heads of 8 values, which have no export.
        return Models(*_on_engines(settings, *tiny_lvlm()))

    monkeypatch.setitem(MODELS, "tiny", factory)
    monkeypatch.setenv("PRECIS_MODEL", "tiny")
    result = precis("model", "build", tmp_path)
    assert result.exit_code == 0, result.output
    assert result.output.count("Not exported, PyTorch will run it: attention") == 2
    assert list(tmp_path.iterdir()) == []
    models = MODELS["tiny"](Settings(model_dir=tmp_path))
    assert isinstance(models.generator, LvlmGenerator)


def test_the_second_pass_is_exported_for_other_engines(
    tiny: Precis, tmp_path: Path
) -> None:
    folder = tmp_path / "lm"
    result = tiny("export", "second-pass", folder)
    assert result.exit_code == 0, result.output
    *_, command = result.stdout.splitlines()
    assert command == (
        f"vllm serve {folder} --served-model-name {'0' * 32} --enable-prompt-embeds"
    )
    assert json.loads((folder / "config.json").read_text())["precis_fingerprint"]
    again = tiny("export", "second-pass", folder)
    assert again.exit_code == 1
    assert again.output.startswith("Error: ")
    assert len(again.output.splitlines()) == 1
