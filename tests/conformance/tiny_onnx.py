"""The tiny LVLM with random adapters, and its passes exported once for all tests."""

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
from tests.conformance.tiny_lvlm import tiny_lvlm

# Soft words, and states of the first, an inner and the last layer.
SOFT_WORDS = (("readout", "soft_words"), ("embedding_layers", (1, 0, -1)))


@cache
def exported_tiny_lvlm(
    *, of_bytes: bool = False, precision: Precision = "float32"
) -> tuple[LvlmSummaryModel, LvlmGenerator, Path]:
    """Both passes in PyTorch, and the folder of the exported second pass."""
    summary, generator = adapted_tiny_lvlm(of_bytes=of_bytes)
    place = _temporary_folder()
    folder = export(generator.model, summary.fingerprint, place, precision)
    return summary, generator, folder


@cache
def exported_tiny_first_pass(
    *changes: tuple[str, object],
) -> tuple[LvlmSummaryModel, Path]:
    """The summary model in PyTorch, and the folder of its exported first pass."""
    summary, _ = adapted_tiny_lvlm(**dict(changes))
    folder = export_first_pass(summary.model, summary.fingerprint, _temporary_folder())
    return summary, folder


def adapted_tiny_lvlm(
    *, of_bytes: bool = False, **changes: object
) -> tuple[LvlmSummaryModel, LvlmGenerator]:
    """Both passes, the same at every call; `changes` are to the SummaryConfig."""
    # ONNX Runtime's attention takes heads of 16 values and their multiples, and the builder takes
    # the first layer as wide as the vocabulary (64, or 260 of bytes) for the output head.
    summary, generator = tiny_lvlm(of_bytes=of_bytes, hidden_size=256, **changes)
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in generator.model.named_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=draw) * 0.1)
    return summary, generator


def _temporary_folder() -> Path:
    place = Path(tempfile.mkdtemp(prefix="precis-onnx-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    return place
