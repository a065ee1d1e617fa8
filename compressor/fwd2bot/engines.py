"""The engines that run each pass, by name."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from compressor.errors import (
    EngineMissing,
    EngineRefused,
    ExportFailed,
    ModelFilesInvalid,
    ModelFilesMissing,
)
from compressor.fwd2bot.generator import LvlmGenerator
from compressor.fwd2bot.model import SummaryLvlm
from compressor.fwd2bot.onnx_engine.folder import (
    Precision,
    first_pass_folder_name,
    folder_name,
)
from compressor.fwd2bot.summary_model import LvlmSummaryModel
from compressor.ports import Generator

log = logging.getLogger(__name__)

# First pass: of the summary model in PyTorch and the folder that holds exported passes.

FirstPass = Callable[[LvlmSummaryModel, Path], LvlmSummaryModel]


def _first_pass_in_torch(in_torch: LvlmSummaryModel, _parent: Path) -> LvlmSummaryModel:
    return in_torch


def _first_pass_on_onnx(in_torch: LvlmSummaryModel, parent: Path) -> LvlmSummaryModel:
    # ONNX Runtime is only loaded where it is used.
    from compressor.fwd2bot.onnx_engine.export import why_first_pass_not_exportable
    from compressor.fwd2bot.onnx_engine.first_pass import OnnxFirstPass

    reason = why_first_pass_not_exportable(in_torch.model)
    if reason is not None:
        raise ExportFailed(reason)
    fingerprint = in_torch.fingerprint
    folder = parent / first_pass_folder_name(fingerprint)
    return in_torch.on(OnnxFirstPass(in_torch.model, folder, fingerprint))


def _first_pass_auto(in_torch: LvlmSummaryModel, parent: Path) -> LvlmSummaryModel:
    if not _is_plain(in_torch.model):
        return in_torch
    try:
        return _first_pass_on_onnx(in_torch, parent)
    except _UNUSABLE as error:
        _say_why("first pass of ONNX Runtime", error)
    log.info("The first pass runs in PyTorch.")
    return in_torch


FIRST_PASS_ENGINES: dict[str, FirstPass] = {
    # ONNX Runtime on a CPU, if the first pass is exported; otherwise PyTorch.
    "auto": _first_pass_auto,
    # Raises where it cannot serve. Float32 alone: other tokens would be another model's.
    "onnx": _first_pass_on_onnx,
    "torch": _first_pass_in_torch,
}

# Second pass: of the generator in PyTorch, the fingerprint of its summary model, and the folder
# that holds exported passes; how many bytes of earlier prompts' keys and values may be kept; and
# the URL of a server.

SecondPass = Callable[[LvlmGenerator, str, Path, int, str | None], Generator]


def _torch(
    in_torch: LvlmGenerator,
    _fingerprint: str,
    _parent: Path,
    _prefix_bytes: int,
    _url: str | None,
) -> Generator:
    return in_torch


def _onnx(
    in_torch: LvlmGenerator,
    fingerprint: str,
    parent: Path,
    prefix_bytes: int,
    _url: str | None,
    *,
    precision: Precision,
) -> Generator:
    # ONNX Runtime is only loaded where it is used.
    from compressor.fwd2bot.onnx_engine.export import why_not_exportable
    from compressor.fwd2bot.onnx_engine.generator import OnnxGenerator

    model = in_torch.model
    reason = why_not_exportable(model)
    if reason is not None:
        raise ExportFailed(reason)
    folder = parent / folder_name(fingerprint, precision)
    return OnnxGenerator(model, folder, fingerprint, prefix_bytes=prefix_bytes)


def _auto(
    in_torch: LvlmGenerator,
    fingerprint: str,
    parent: Path,
    prefix_bytes: int,
    url: str | None,
) -> Generator:
    if not _is_plain(in_torch.model):
        return in_torch
    for name, precision in EXPORTED_AS.items():
        engine = SECOND_PASS_ENGINES[name]
        try:
            return engine(in_torch, fingerprint, parent, prefix_bytes, url)
        except _UNUSABLE as error:
            _say_why(f"second pass of ONNX Runtime in {precision}", error)
    log.info("The second pass runs in PyTorch.")
    return in_torch


def _vllm(
    in_torch: LvlmGenerator,
    fingerprint: str,
    _parent: Path,
    _prefix_bytes: int,
    url: str | None,
) -> Generator:
    # The client is an extra, and only loaded where it is used.
    try:
        from compressor.fwd2bot.vllm_engine import VllmGenerator
    except ModuleNotFoundError as error:
        raise EngineMissing(
            "the engine vllm needs the extra `vllm`: pip install 'precis-service[vllm]'"
        ) from error
    assert url is not None, "the settings ask for it"
    return VllmGenerator(in_torch.model, url, fingerprint)


# Engines of ONNX Runtime, the one that `auto` prefers first, and what they need exported.
EXPORTED_AS: dict[str, Precision] = {"onnx-int8": "int8", "onnx": "float32"}

SECOND_PASS_ENGINES: dict[str, SecondPass] = {
    # ONNX Runtime on a CPU, if the second pass is exported; otherwise PyTorch.
    "auto": _auto,
    # These raise where they cannot serve.
    **{
        name: partial(_onnx, precision=precision)
        for name, precision in EXPORTED_AS.items()
    },
    "torch": _torch,
    "vllm": _vllm,  # a server that runs the second pass saved as a causal language model
}

# What `auto` passes over.
_UNUSABLE = (ModelFilesMissing, ExportFailed, ModelFilesInvalid, EngineRefused)


def _is_plain(model: SummaryLvlm) -> bool:
    """Whether `auto` may leave PyTorch: a number format that somebody chose is kept to."""
    return model.device.type == "cpu" and model.embedding.weight.dtype == torch.float32


def _say_why(what: str, error: Exception) -> None:
    is_there = isinstance(error, (ModelFilesInvalid, EngineRefused))
    log.log(logging.WARNING if is_there else logging.INFO, "No %s: %s", what, error)


def free_unused(summary: LvlmSummaryModel, generator: Generator) -> None:
    """Frees the weights in PyTorch that neither pass computes with."""
    if summary.runs_in_torch or isinstance(generator, LvlmGenerator):
        return
    summary.model.drop_decoder()
