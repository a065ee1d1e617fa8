"""Exports the language model of a summary model, a pass's adapter merged, for ONNX Runtime.

The graph takes embeddings, because neither images nor summary tokens have ids. That of the second
pass gives the logits of the last token; that of the first pass, which is float32 alone, the hidden
states that summary tokens and retrieval embeddings are made of. ONNX Runtime's own model builder
makes both.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from compressor.errors import ExportFailed
from compressor.fwd2bot.adapters import AdapterName
from compressor.fwd2bot.causal_lm import plain_causal_lm
from compressor.fwd2bot.config import ForwardKind, ReadoutKind
from compressor.fwd2bot.model import SummaryLvlm
from compressor.fwd2bot.onnx_engine import canary
from compressor.fwd2bot.onnx_engine.folder import (
    CANARY,
    GRAPH,
    WEIGHTS,
    DecoderShape,
    FirstPassManifest,
    Precision,
    SecondPassManifest,
    file_sums,
    first_pass_folder_name,
    folder_name,
    inner_layers,
    write_manifest,
)

# Decoders that this export was tested with; the builder knows more.
_MODEL_TYPES = ("llama",)
_HEAD_STEP = 16  # values that the size of a head is a multiple of, in ONNX Runtime
_BUILDER = "onnxruntime_genai.models.builder"
_QUANTISER = "compressor.fwd2bot.onnx_engine.quantise"
_CACHE_DROPPER = "compressor.fwd2bot.onnx_engine.without_cache"
_SECOND_PASS_OPTIONS = ("prune_lm_head=true",)
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


def why_first_pass_not_exportable(model: SummaryLvlm) -> str | None:
    """Why the first pass has no export; None if it has one."""
    if model.config.readout == ReadoutKind.SOFT_WORDS_IN_TURN:
        return "soft words that are made one by one have no export"
    return why_not_exportable(model)


def export(
    model: SummaryLvlm, fingerprint: str, parent: Path, precision: Precision = "float32"
) -> Path:
    """Writes the folder of the second pass into `parent`, unless it is there; returns it.

    `fingerprint` is the summary model's, `precision` that of the weights. Raises ExportFailed.
    """
    reason = why_not_exportable(model)
    if reason is not None:
        raise ExportFailed(reason)

    def write(folder: Path) -> None:
        config = _write_graph(
            model, folder, "second_pass", _SECOND_PASS_OPTIONS, precision
        )
        canary.write(model, folder / CANARY)
        manifest = SecondPassManifest(
            fingerprint=fingerprint,
            precision=precision,
            shape=DecoderShape(
                layers=config.num_hidden_layers,
                key_value_heads=config.num_key_value_heads,
                head_size=config.head_dim,
                hidden_size=config.hidden_size,
                vocabulary=config.vocab_size,
                context_tokens=config.max_position_embeddings,
            ),
            made_with=_made_with(),
            files=file_sums(folder),
        )
        write_manifest(folder, manifest)

    return _written_whole(parent / folder_name(fingerprint, precision), write)


def export_first_pass(model: SummaryLvlm, fingerprint: str, parent: Path) -> Path:
    """Writes the folder of the first pass into `parent`, unless it is there; returns it.

    `fingerprint` is the summary model's. Raises ExportFailed.
    """
    reason = why_first_pass_not_exportable(model)
    if reason is not None:
        raise ExportFailed(reason)
    layers = int(model.base.config.get_text_config().num_hidden_layers)
    inner = inner_layers(model.embedding_layers, layers)
    options = ["exclude_lm_head=true"]
    if inner:
        numbers = ",".join(map(str, inner))
        options.append(f"aux_hidden_state_layers={numbers}")

    def write(folder: Path) -> None:
        # First, because it finds what no engine can serve.
        canary.write_first_pass(model, folder / CANARY)
        config = _write_graph(model, folder, "first_pass", options)
        _run("the cache's removal", [_CACHE_DROPPER, str(folder / GRAPH)])
        manifest = FirstPassManifest(
            fingerprint=fingerprint,
            hidden_size=config.hidden_size,
            layers=layers,
            embedding_layers=model.embedding_layers,
            context_tokens=config.max_position_embeddings,
            made_with=_made_with(),
            files=file_sums(folder),
        )
        write_manifest(folder, manifest)

    return _written_whole(parent / first_pass_folder_name(fingerprint), write)


def _written_whole(folder: Path, write: Callable[[Path], None]) -> Path:
    """The folder, which `write` fills unless it is there. Raises ExportFailed."""
    if folder.exists():
        return folder
    # Written beside its place and renamed when complete, so that a folder that exists is whole.
    temporary = folder.with_name(f"{folder.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
        write(temporary)
        temporary.rename(folder)
    except OSError as error:
        # Another process may have been quicker; its folder is the same.
        if not folder.exists():
            raise ExportFailed(f"{folder} cannot be written: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _made_with() -> dict[str, str]:
    return {name: version(name) for name in _PACKAGES}


def _write_graph(
    model: SummaryLvlm,
    folder: Path,
    adapter: AdapterName,
    options: Sequence[str],
    precision: Precision = "float32",
) -> Any:
    """Writes graph and weights; returns the config of the language model."""
    source = folder / "source"
    built = folder / "built"
    config = _save_source(model, source, adapter)
    _run_builder(source, built, options)
    if precision == "int8":
        _run("the quantiser", [_QUANTISER, str(built / GRAPH)])
    for name in (GRAPH, WEIGHTS):
        (built / name).rename(folder / name)
    shutil.rmtree(source)
    shutil.rmtree(built)
    return config


def _save_source(model: SummaryLvlm, folder: Path, adapter: AdapterName) -> Any:
    """Saves the language model as the builder reads it; returns its config."""
    plain = plain_causal_lm(model, torch.float32, adapter)
    plain.save_pretrained(folder)
    # The builder copies a tokenizer, and stops where there is none.
    model.tokenizer.save_pretrained(folder)
    return plain.config


def _run_builder(source: Path, target: Path, options: Sequence[str]) -> None:
    command = [
        _BUILDER,
        *("-m", str(source), "-i", str(source), "-o", str(target)),
        *("-c", str(target / "cache"), "-p", "fp32", "-e", "cpu"),
        *("--extra_options", "exclude_embeds=true", *options),
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
