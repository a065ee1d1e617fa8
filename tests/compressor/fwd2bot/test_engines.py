"""Which engine runs each pass, and what happens where one cannot."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import get_args

import pytest

from compressor.errors import ExportFailed, ModelFilesInvalid, ModelFilesMissing
from compressor.fwd2bot.engines import (
    FIRST_PASS_ENGINES,
    SECOND_PASS_ENGINES,
    free_unused,
)
from compressor.fwd2bot.generator import LvlmGenerator, whole_answers
from compressor.fwd2bot.onnx_engine.batch import PREFIX_BYTES
from compressor.fwd2bot.onnx_engine.folder import WEIGHTS
from compressor.fwd2bot.onnx_engine.generator import OnnxGenerator
from compressor.fwd2bot.summary_model import LvlmSummaryModel
from compressor.ports import GenerationLimits, GenerationRequest, Turn
from service.settings import Settings
from tests.compressor.production import production_model, qwen2_5_vl
from tests.conformance.summary_model_suite import pictures
from tests.conformance.tiny_onnx import (
    SOFT_WORDS,
    adapted_tiny_lvlm,
    exported_tiny_first_pass,
    exported_tiny_lvlm,
)

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
        SECOND_PASS_ENGINES["auto"](in_torch, FINGERPRINT, parent, PREFIX_BYTES, None),
        OnnxGenerator,
    )
    empty = tmp_path_factory.mktemp("empty")
    assert (
        SECOND_PASS_ENGINES["auto"](in_torch, FINGERPRINT, empty, PREFIX_BYTES, None)
        is in_torch
    )
    assert (
        SECOND_PASS_ENGINES["torch"](in_torch, FINGERPRINT, parent, PREFIX_BYTES, None)
        is in_torch
    )


def test_auto_prefers_int8_to_float32(in_torch: LvlmGenerator, parent: Path) -> None:
    exported = exported_tiny_lvlm(precision="int8")[2]
    shutil.copytree(exported, parent / exported.name)

    def precision(engine: str) -> str:
        generator = SECOND_PASS_ENGINES[engine](
            in_torch, FINGERPRINT, parent, PREFIX_BYTES, None
        )
        assert isinstance(generator, OnnxGenerator)
        return generator.precision

    assert precision("auto") == "int8"
    assert precision("onnx-int8") == "int8"
    assert precision("onnx") == "float32"
    (parent / exported.name / WEIGHTS).unlink()
    assert precision("auto") == "float32"


@pytest.mark.parametrize(
    ("setting", "engines"),
    [
        ("first_pass_engine", FIRST_PASS_ENGINES),
        ("second_pass_engine", SECOND_PASS_ENGINES),
    ],
)
def test_the_settings_name_every_engine(setting: str, engines: dict) -> None:
    choices = get_args(Settings.model_fields[setting].annotation)
    assert sorted(choices) == sorted(engines)


def test_auto_says_why_it_leaves_a_damaged_export(
    in_torch: LvlmGenerator, parent: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (path,) = parent.glob(f"*/{WEIGHTS}")
    path.write_bytes(path.read_bytes()[:-1])
    with caplog.at_level(logging.WARNING):
        assert (
            SECOND_PASS_ENGINES["auto"](
                in_torch, FINGERPRINT, parent, PREFIX_BYTES, None
            )
            is in_torch
        )
    assert WEIGHTS in caplog.text
    with pytest.raises(ModelFilesInvalid, match=WEIGHTS):
        SECOND_PASS_ENGINES["onnx"](in_torch, FINGERPRINT, parent, PREFIX_BYTES, None)


def test_a_named_engine_that_cannot_serve_is_an_error(
    in_torch: LvlmGenerator, tmp_path: Path
) -> None:
    with pytest.raises(ModelFilesMissing):
        SECOND_PASS_ENGINES["onnx"](in_torch, FINGERPRINT, tmp_path, PREFIX_BYTES, None)
    other = LvlmGenerator(production_model(qwen2_5_vl))
    with pytest.raises(ExportFailed, match="qwen2_5_vl"):
        SECOND_PASS_ENGINES["onnx"](other, FINGERPRINT, tmp_path, PREFIX_BYTES, None)
    assert (
        SECOND_PASS_ENGINES["auto"](other, FINGERPRINT, tmp_path, PREFIX_BYTES, None)
        is other
    )


# The first pass


@pytest.fixture
def first_pass() -> LvlmSummaryModel:
    return exported_tiny_first_pass(*SOFT_WORDS)[0]


@pytest.fixture
def first_pass_parent(tmp_path: Path) -> Path:
    """A folder with a copy of the exported first pass."""
    exported = exported_tiny_first_pass(*SOFT_WORDS)[1]
    shutil.copytree(exported, tmp_path / exported.name)
    return tmp_path


def test_auto_takes_the_exported_first_pass_where_there_is_one(
    first_pass: LvlmSummaryModel,
    first_pass_parent: Path,
    tmp_path_factory: pytest.TempPathFactory,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for engine in ("auto", "onnx"):
        chosen = FIRST_PASS_ENGINES[engine](first_pass, first_pass_parent)
        assert not chosen.runs_in_torch
        assert chosen.fingerprint == first_pass.fingerprint
    assert FIRST_PASS_ENGINES["torch"](first_pass, first_pass_parent) is first_pass
    empty = tmp_path_factory.mktemp("empty")
    with caplog.at_level(logging.INFO):
        assert FIRST_PASS_ENGINES["auto"](first_pass, empty) is first_pass
    assert "No first pass of ONNX Runtime: there is no" in caplog.text
    assert "The first pass runs in PyTorch." in caplog.text
    with pytest.raises(ModelFilesMissing):
        FIRST_PASS_ENGINES["onnx"](first_pass, empty)


def test_auto_says_why_it_leaves_a_damaged_first_pass(
    first_pass: LvlmSummaryModel,
    first_pass_parent: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (path,) = first_pass_parent.glob(f"*/{WEIGHTS}")
    path.write_bytes(path.read_bytes()[:-1])
    with caplog.at_level(logging.WARNING):
        chosen = FIRST_PASS_ENGINES["auto"](first_pass, first_pass_parent)
    assert chosen is first_pass
    assert WEIGHTS in caplog.text
    with pytest.raises(ModelFilesInvalid, match=WEIGHTS):
        FIRST_PASS_ENGINES["onnx"](first_pass, first_pass_parent)


def test_a_first_pass_without_an_export_stays_in_torch(tmp_path: Path) -> None:
    other = LvlmSummaryModel(production_model(qwen2_5_vl), FINGERPRINT)
    assert FIRST_PASS_ENGINES["auto"](other, tmp_path) is other
    with pytest.raises(ExportFailed, match="qwen2_5_vl"):
        FIRST_PASS_ENGINES["onnx"](other, tmp_path)


def test_weights_that_neither_pass_computes_with_are_freed(
    first_pass_parent: Path,
) -> None:
    """And both passes give what they gave."""
    summary, generator = adapted_tiny_lvlm(**dict(SOFT_WORDS))
    model = summary.model
    second_pass = exported_tiny_lvlm()[2]
    shutil.copytree(second_pass, first_pass_parent / second_pass.name)
    on_onnx = FIRST_PASS_ENGINES["onnx"](summary, first_pass_parent)
    answers = SECOND_PASS_ENGINES["onnx"](
        generator, FINGERPRINT, first_pass_parent, PREFIX_BYTES, None
    )

    def results() -> list[object]:
        made = on_onnx.compress(pictures())
        texts = on_onnx.embed_text(["what is a word1 ?"])
        request = GenerationRequest([made.tokens[0]], [Turn("user", "what ?")])
        text = whole_answers(answers, [request], [GenerationLimits(8)])
        return [made.tokens.tolist(), made.embeddings.tolist(), texts.tolist(), text]

    before = results()
    free_unused(summary, answers)
    free_unused(on_onnx, generator)
    assert not any(each.is_meta for each in model.parameters())
    free_unused(on_onnx, answers)
    held = {name for name, each in model.named_parameters() if not each.is_meta}
    layers = {name for name in held if ".language_model.layers." in name}
    assert layers == set()
    assert any("embed_tokens.words" in name for name in held)
    assert any("vision_tower" in name for name in held)
    assert results() == before
