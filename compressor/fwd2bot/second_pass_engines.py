"""The engines that run the second pass, by name."""

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
from compressor.fwd2bot.onnx_engine.folder import Precision, folder_name
from compressor.ports import Generator

log = logging.getLogger(__name__)

# Of the generator in PyTorch, the fingerprint of its summary model, and the folder that holds
# exported second passes; how many bytes of earlier prompts' keys and values may be kept; and the
# URL of a server.
Engine = Callable[[LvlmGenerator, str, Path, int, str | None], Generator]


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
    model = in_torch.model
    # A number format that somebody chose is kept to.
    is_plain = model.embedding.weight.dtype == torch.float32
    if model.device.type != "cpu" or not is_plain:
        return in_torch
    for name, precision in EXPORTED_AS.items():
        try:
            return ENGINES[name](in_torch, fingerprint, parent, prefix_bytes, url)
        except (ModelFilesMissing, ExportFailed) as error:
            log.info("No second pass of ONNX Runtime in %s: %s", precision, error)
        except (ModelFilesInvalid, EngineRefused) as error:
            log.warning("No second pass of ONNX Runtime in %s: %s", precision, error)
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

ENGINES: dict[str, Engine] = {
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
