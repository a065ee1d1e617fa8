"""Tiny LVLMs with random adapters, and their passes exported once for all tests."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

import torch

from compressor.fwd2bot.generator import LvlmGenerator
from compressor.fwd2bot.onnx_engine.export import export, export_first_pass
from compressor.fwd2bot.onnx_engine.folder import Precision
from compressor.fwd2bot.summary_model import LvlmSummaryModel
from tests.compressor.tiny import tiny_model, trained
from tests.conformance.tiny_lvlm import tiny_lvlm


@cache
def exported_tiny_lvlm(
    *, of_bytes: bool = False, precision: Precision = "float32"
) -> tuple[LvlmSummaryModel, LvlmGenerator, Path]:
    """Both passes in PyTorch, and the folder of the exported second pass."""
    # ONNX Runtime's attention takes heads of 16 values and their multiples, and the builder takes
    # the first layer as wide as the vocabulary (64, or 260 of bytes) for the output head.
    summary, generator = tiny_lvlm(of_bytes=of_bytes, hidden_size=256)
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in generator.model.named_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=draw) * 0.1)
    folder = export(
        generator.model, summary.fingerprint, _temporary_folder(), precision
    )
    return summary, generator, folder


@cache
def exported_tiny_first_pass(
    *changes: tuple[str, object],
) -> tuple[LvlmSummaryModel, Path]:
    """The default model's classes in PyTorch, and the folder of the exported first pass.

    `changes` are to the SummaryConfig.
    """
    # Four heads of 16 values, which ONNX Runtime's attention takes.
    model = trained(tiny_model(64, **dict(changes))).requires_grad_(False)
    draw = torch.Generator().manual_seed(2)
    states = torch.randn(20, 8, model.head.image.in_features, generator=draw)
    model.head.fit_statistics(states, states[:, 0])
    model.merge_adapters()
    summary = LvlmSummaryModel(model, "0" * 32)
    return summary, export_first_pass(summary, _temporary_folder())


def _temporary_folder() -> Path:
    place = Path(tempfile.mkdtemp(prefix="precis-onnx-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    return place
