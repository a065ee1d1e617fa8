"""Which engine runs the second pass, and what happens where one cannot."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import get_args

import pytest

from compressor.errors import ExportFailed, ModelFilesInvalid, ModelFilesMissing
from compressor.fwd2bot.generator import LvlmGenerator
from compressor.fwd2bot.onnx_engine.batch import PREFIX_BYTES
from compressor.fwd2bot.onnx_engine.folder import WEIGHTS
from compressor.fwd2bot.onnx_engine.generator import OnnxGenerator
from compressor.fwd2bot.second_pass_engines import ENGINES
from service.settings import Settings
from tests.compressor.production import production_model, qwen2_5_vl
from tests.conformance.tiny_onnx import exported_tiny_lvlm

FINGERPRINT = "0" * 32


@pytest.fixture(scope="module")
def in_torch() -> LvlmGenerator:
    return exported_tiny_lvlm()[1]


@pytest.fixture
def parent(tmp_path: Path) -> Path:
    """A folder with a copy of the exported second pass."""
    exported = exported_tiny_lvlm()[2]
    shutil.copytree(exported, tmp_path / exported.name)
    return tmp_path


def test_auto_takes_the_export_where_there_is_one(
    in_torch: LvlmGenerator, parent: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert isinstance(
        ENGINES["auto"](in_torch, FINGERPRINT, parent, PREFIX_BYTES, None),
        OnnxGenerator,
    )
    empty = tmp_path_factory.mktemp("empty")
    assert ENGINES["auto"](in_torch, FINGERPRINT, empty, PREFIX_BYTES, None) is in_torch
    assert (
        ENGINES["torch"](in_torch, FINGERPRINT, parent, PREFIX_BYTES, None) is in_torch
    )


def test_auto_prefers_int8_to_float32(in_torch: LvlmGenerator, parent: Path) -> None:
    exported = exported_tiny_lvlm(precision="int8")[2]
    shutil.copytree(exported, parent / exported.name)

    def precision(engine: str) -> str:
        generator = ENGINES[engine](in_torch, FINGERPRINT, parent, PREFIX_BYTES, None)
        assert isinstance(generator, OnnxGenerator)
        return generator.precision

    assert precision("auto") == "int8"
    assert precision("onnx-int8") == "int8"
    assert precision("onnx") == "float32"
    (parent / exported.name / WEIGHTS).unlink()
    assert precision("auto") == "float32"


def test_the_setting_names_every_engine() -> None:
    choices = get_args(Settings.model_fields["second_pass_engine"].annotation)
    assert list(choices) == list(ENGINES)


def test_auto_says_why_it_leaves_a_damaged_export(
    in_torch: LvlmGenerator, parent: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (path,) = parent.glob(f"*/{WEIGHTS}")
    path.write_bytes(path.read_bytes()[:-1])
    with caplog.at_level(logging.WARNING):
        assert (
            ENGINES["auto"](in_torch, FINGERPRINT, parent, PREFIX_BYTES, None)
            is in_torch
        )
    assert WEIGHTS in caplog.text
    with pytest.raises(ModelFilesInvalid, match=WEIGHTS):
        ENGINES["onnx"](in_torch, FINGERPRINT, parent, PREFIX_BYTES, None)


def test_a_named_engine_that_cannot_serve_is_an_error(
    in_torch: LvlmGenerator, tmp_path: Path
) -> None:
    with pytest.raises(ModelFilesMissing):
        ENGINES["onnx"](in_torch, FINGERPRINT, tmp_path, PREFIX_BYTES, None)
    other = LvlmGenerator(production_model(qwen2_5_vl))
    with pytest.raises(ExportFailed, match="qwen2_5_vl"):
        ENGINES["onnx"](other, FINGERPRINT, tmp_path, PREFIX_BYTES, None)
    assert ENGINES["auto"](other, FINGERPRINT, tmp_path, PREFIX_BYTES, None) is other
