"""Exports the language model of a summary model, second-pass adapter merged, for ONNX Runtime.

The graph takes embeddings, because summary tokens have no ids, and gives the logits of the last
token. ONNX Runtime's own model builder makes it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from compressor.errors import ExportFailed
from compressor.fwd2bot.causal_lm import plain_causal_lm
from compressor.fwd2bot.config import ForwardKind
from compressor.fwd2bot.model import SummaryLvlm
from compressor.fwd2bot.onnx_engine import canary
from compressor.fwd2bot.onnx_engine.folder import (
    CANARY,
    GRAPH,
    WEIGHTS,
    DecoderShape,
    Precision,
    folder_name,
    write_manifest,
)

# Decoders that this export was tested with; the builder knows more.
_MODEL_TYPES = ("llama",)
_HEAD_STEP = 16  # values that the size of a head is a multiple of, in ONNX Runtime
_BUILDER = "onnxruntime_genai.models.builder"
_QUANTISER = "compressor.fwd2bot.onnx_engine.quantise"
_PACKAGES = ("onnxruntime", "onnxruntime-genai")


def why_not_exportable(model: SummaryLvlm) -> str | None:
    """Why the language model has no export; None if it has one."""
    if model.device.type != "cpu":
        return f"the model is on {model.device}, and the export computes on a CPU"
    if model.config.forward == ForwardKind.SINGLE:
        return "a model of single forward has no export"
    config: Any = model.base.config.get_text_config()
    if config.model_type not in _MODEL_TYPES:
        return f"language models of type {config.model_type} have no export"
    if getattr(model.output_head, "bias", None) is not None:
        return "an output head with a bias has no export"
    if config.head_dim % _HEAD_STEP:
        return f"attention heads of {config.head_dim} values have no export"
    return None


def export(
    model: SummaryLvlm, fingerprint: str, parent: Path, precision: Precision = "float32"
) -> Path:
    """Writes the folder of the second pass into `parent`, unless it is there; returns it.

    `fingerprint` is the summary model's, `precision` that of the weights. Raises ExportFailed.
    """
    reason = why_not_exportable(model)
    if reason is not None:
        raise ExportFailed(reason)
    folder = parent / folder_name(fingerprint, precision)
    if folder.exists():
        return folder
    # Written beside its place and renamed when complete, so that a folder that exists is whole.
    temporary = folder.with_name(f"{folder.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
        shape = _write_graph(model, temporary, precision)
        canary.write(model, temporary / CANARY)
        write_manifest(
            temporary,
            fingerprint=fingerprint,
            precision=precision,
            shape=shape,
            made_with={name: version(name) for name in _PACKAGES},
        )
        temporary.rename(folder)
    except OSError as error:
        # Another process may have been quicker; its folder is the same.
        if not folder.exists():
            raise ExportFailed(f"{folder} cannot be written: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _write_graph(
    model: SummaryLvlm, folder: Path, precision: Precision
) -> DecoderShape:
    source = folder / "source"
    built = folder / "built"
    config = _save_source(model, source)
    _run_builder(source, built)
    if precision == "int8":
        _run("the quantiser", [_QUANTISER, str(built / GRAPH)])
    for name in (GRAPH, WEIGHTS):
        (built / name).rename(folder / name)
    shutil.rmtree(source)
    shutil.rmtree(built)
    return DecoderShape(
        layers=config.num_hidden_layers,
        key_value_heads=config.num_key_value_heads,
        head_size=config.head_dim,
        hidden_size=config.hidden_size,
        vocabulary=config.vocab_size,
        context_tokens=config.max_position_embeddings,
    )


def _save_source(model: SummaryLvlm, folder: Path) -> Any:
    """Saves the language model as the builder reads it; returns its config."""
    plain = plain_causal_lm(model, torch.float32)
    plain.save_pretrained(folder)
    # The builder copies a tokenizer, and stops where there is none.
    model.tokenizer.save_pretrained(folder)
    return plain.config


def _run_builder(source: Path, target: Path) -> None:
    options = ["exclude_embeds=true", "prune_lm_head=true"]
    command = [
        _BUILDER,
        *("-m", str(source), "-i", str(source), "-o", str(target)),
        *("-c", str(target / "cache"), "-p", "fp32", "-e", "cpu"),
        *("--extra_options", *options),
    ]
    _run("the model builder", command)


def _run(name: str, command: list[str]) -> None:
    """Runs a module in a process of its own, which gives its memory back.

    The builder's modules have names such as `builders`, which a process of ours may have too.
    """
    run = subprocess.run(
        [sys.executable, "-m", *command], capture_output=True, text=True, check=False
    )
    if run.returncode:
        lines = run.stderr.strip().splitlines() or [f"status {run.returncode}"]
        raise ExportFailed(f"{name} failed: {lines[-1]}")
