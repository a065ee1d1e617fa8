"""`precis model build` exports the second pass for the engine that the settings name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from compressor.fwd2bot.generator import LvlmGenerator
from compressor.fwd2bot.onnx_engine.folder import MANIFEST
from compressor.fwd2bot.onnx_engine.generator import OnnxGenerator
from service.models import MODELS, Models, _second_pass
from service.settings import Settings
from tests.conformance.tiny_lvlm import tiny_lvlm
from tests.service.commands.conftest import Precis


@pytest.fixture
def tiny(precis: Precis, monkeypatch: pytest.MonkeyPatch) -> Precis:
    """Runs `precis` with a tiny LVLM as the model."""

    def factory(settings: Settings) -> Models:
        summary, generator = tiny_lvlm(hidden_size=256)
        return Models(summary, _second_pass(settings, summary, generator))

    monkeypatch.setitem(MODELS, "tiny", factory)
    monkeypatch.setenv("PRECIS_MODEL", "tiny")
    return precis


def test_torch_needs_no_export(
    tiny: Precis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    (folder,) = tmp_path.iterdir()
    assert result.stdout.splitlines()[-1] == str(folder)
    assert (folder / MANIFEST).exists()
    models = MODELS["tiny"](Settings(model_dir=tmp_path))
    assert isinstance(models.generator, OnnxGenerator)
    assert models.generator.precision == precision
    in_torch = Settings(model_dir=tmp_path, second_pass_engine="torch")
    assert isinstance(MODELS["tiny"](in_torch).generator, LvlmGenerator)


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
