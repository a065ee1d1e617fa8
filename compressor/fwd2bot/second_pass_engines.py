"""The engines that run the second pass, by name."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from compressor.errors import EngineMissing, ExportFailed
from compressor.fwd2bot.exported_passes import (
    EXPORTED_AS,
    UNUSABLE,
    load_second_pass,
    say_why,
)
from compressor.fwd2bot.generator import LvlmGenerator
from compressor.fwd2bot.onnx_engine.export import why_not_exportable
from compressor.fwd2bot.onnx_engine.folder import Precision
from compressor.fwd2bot.onnx_engine.prompt_embedder import PromptEmbedder
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
    model = in_torch.model
    reason = why_not_exportable(model)
    if reason is not None:
        raise ExportFailed(reason)
    text_side = PromptEmbedder.of(model)
    return load_second_pass(text_side, parent, fingerprint, [precision], prefix_bytes)


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
        except UNUSABLE as error:
            say_why(f"second pass of ONNX Runtime in {precision}", error)
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
