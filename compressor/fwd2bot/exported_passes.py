"""Both passes from what was exported for ONNX Runtime, without PyTorch."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from compressor.errors import (
    EngineRefused,
    ExportFailed,
    ModelFilesInvalid,
    ModelFilesMissing,
)
from compressor.fwd2bot.onnx_engine.folder import (
    Precision,
    first_pass_folder_name,
    folder_name,
)
from compressor.fwd2bot.onnx_engine.generator import OnnxGenerator
from compressor.fwd2bot.onnx_engine.prompt_embedder import PromptEmbedder
from compressor.fwd2bot.onnx_engine.summary_model import OnnxSummaryModel

log = logging.getLogger(__name__)

# Engines of ONNX Runtime for the second pass, the one that `auto` prefers first, and what they need
# exported.
EXPORTED_AS: dict[str, Precision] = {"onnx-int8": "int8", "onnx": "float32"}

# What `auto` passes over.
UNUSABLE = (ModelFilesMissing, ExportFailed, ModelFilesInvalid, EngineRefused)


def say_why(what: str, error: Exception) -> None:
    """Logs why an export is not used: a warning only for one that is there."""
    is_there = isinstance(error, (ModelFilesInvalid, EngineRefused))
    log.log(logging.WARNING if is_there else logging.INFO, "No %s: %s", what, error)


def load_first_pass(parent: Path, fingerprint: str) -> OnnxSummaryModel:
    """The first pass in the folder `parent`.

    Raises ModelFilesMissing, ModelFilesInvalid or EngineRefused.
    """
    return OnnxSummaryModel(parent / first_pass_folder_name(fingerprint), fingerprint)


def load_second_pass(
    text_side: PromptEmbedder,
    parent: Path,
    fingerprint: str,
    precisions: Sequence[Precision],
    prefix_bytes: int,
) -> OnnxGenerator:
    """The second pass in the folder `parent`, in the first of these precisions that works here.

    Of earlier prompts, `prefix_bytes` of keys and values are kept. Raises ModelFilesMissing,
    ModelFilesInvalid or EngineRefused if none does.
    """
    *others, last = precisions
    for precision in others:
        try:
            return _second_pass(text_side, parent, fingerprint, precision, prefix_bytes)
        except UNUSABLE as error:
            say_why(f"second pass of ONNX Runtime in {precision}", error)
    return _second_pass(text_side, parent, fingerprint, last, prefix_bytes)


def _second_pass(
    text_side: PromptEmbedder,
    parent: Path,
    fingerprint: str,
    precision: Precision,
    prefix_bytes: int,
) -> OnnxGenerator:
    folder = parent / folder_name(fingerprint, precision)
    return OnnxGenerator(text_side, folder, fingerprint, prefix_bytes=prefix_bytes)
