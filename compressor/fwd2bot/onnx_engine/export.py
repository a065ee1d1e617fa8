"""Exports the passes of a summary model for ONNX Runtime.

The language model, a pass's adapter merged, is a graph that takes embeddings, because neither
images nor summary tokens have ids; ONNX Runtime's own model builder makes it. That of the second
pass gives the logits of the last token; that of the first pass, which is float32 alone, the hidden
states that summary tokens and retrieval embeddings are made of. The first pass's folder also holds
the vision tower and all else that the passes need, so that they run without PyTorch.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from transformers import PreTrainedModel

from compressor.errors import ExportFailed, ModelFilesInvalid, ModelFilesMissing
from compressor.fwd2bot.adapters import AdapterName
from compressor.fwd2bot.causal_lm import plain_causal_lm
from compressor.fwd2bot.config import ForwardKind, ReadoutKind
from compressor.fwd2bot.decoding import Decoding
from compressor.fwd2bot.model import SummaryLvlm
from compressor.fwd2bot.onnx_engine.canary import QUESTION, picture
from compressor.fwd2bot.onnx_engine.file_sums import file_sums
from compressor.fwd2bot.onnx_engine.folder import (
    CANARY,
    GRAPH,
    MANIFEST,
    PARTS,
    TOKENIZER,
    VISION,
    WEIGHTS,
    WORD_SCALES,
    WORDS,
    DecoderShape,
    FirstPassManifest,
    Manifest,
    Precision,
    SecondPassManifest,
    TextFormat,
    first_pass_folder_name,
    folder_name,
    inner_layers,
    read_manifest,
    write_manifest,
)
from compressor.fwd2bot.onnx_engine.vision_export import (
    pixel_format,
    why_vision_not_exportable,
    write_vision,
)
from compressor.fwd2bot.onnx_engine.words import in_eight_bits
from compressor.fwd2bot.progress_bars import no_progress_bars
from compressor.fwd2bot.summary_model import LvlmSummaryModel

# Decoders that this export was tested with; the builder knows more.
_MODEL_TYPES = ("llama",)
_HEAD_STEP = 16  # values that the size of a head is a multiple of, in ONNX Runtime
_BUILDER = "onnxruntime_genai.models.builder"
_PACKER = "compressor.fwd2bot.onnx_engine.four_bits"
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
    reason = why_vision_not_exportable(model) or why_not_exportable(model)
    if reason is None and model.output_head.weight is not model.embedding.weight:
        return "a language model with an output head of its own has no export"
    return reason


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
        _write_canary(model, folder / CANARY)
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
            files=file_sums(folder, but=MANIFEST),
        )
        write_manifest(folder, manifest)

    folder = parent / folder_name(fingerprint, precision)
    return _written_whole(folder, fingerprint, SecondPassManifest, write)


def export_first_pass(
    summary: LvlmSummaryModel,
    parent: Path,
    published: Callable[[], PreTrainedModel] | None = None,
) -> Path:
    """Writes the folder of the first pass into `parent`, unless it is there; returns it.

    `published` loads the language model in float32 as it was before any training here. What was
    published in four bits is stored so, and what adapters added stands beside it.

    Raises ExportFailed, and what `published` raises.
    """
    model = summary.model
    reason = why_first_pass_not_exportable(model)
    if reason is not None:
        raise ExportFailed(reason)
    layers = int(model.base.config.get_text_config().num_hidden_layers)
    embedding_layers = [layer % (layers + 1) for layer in model.config.embedding_layers]
    inner = inner_layers(embedding_layers, layers)
    options = ["exclude_lm_head=true"]
    if inner:
        numbers = ",".join(map(str, inner))
        options.append(f"aux_hidden_state_layers={numbers}")

    def write(folder: Path) -> None:
        config = _write_graph(model, folder, "first_pass", options)
        _run("the cache's removal", [_CACHE_DROPPER, str(folder / GRAPH)])
        if published is not None:
            _store_as_published(model, published(), folder, options)
        write_vision(model, folder / VISION)
        _write_parts(model, folder)
        _write_first_pass_canary(summary, folder / CANARY)
        manifest = FirstPassManifest(
            fingerprint=summary.fingerprint,
            mode=summary.description.mode,
            summary=model.config.values(),
            layers=layers,
            embedding_layers=tuple(embedding_layers),
            context_tokens=config.max_position_embeddings,
            pixels=pixel_format(model.processor.image_processor),
            text=_text_format(model),
            made_with=_made_with(),
            files=file_sums(folder, but=MANIFEST),
        )
        write_manifest(folder, manifest)

    folder = parent / first_pass_folder_name(summary.fingerprint)
    return _written_whole(folder, summary.fingerprint, FirstPassManifest, write)


def _written_whole(
    folder: Path,
    fingerprint: str,
    kind: type[Manifest],
    write: Callable[[Path], None],
) -> Path:
    """The folder, which `write` fills unless it is there and whole. Raises ExportFailed."""
    if _is_whole(folder, fingerprint, kind):
        return folder
    # Written beside its place and renamed when complete, so that a folder that exists is whole.
    temporary = folder.with_name(f"{folder.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
        write(temporary)
        # Damaged, or of an earlier version of the format.
        if not _is_whole(folder, fingerprint, kind):
            shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
    except OSError as error:
        # Another process may have been quicker; its folder is the same.
        if not _is_whole(folder, fingerprint, kind):
            raise ExportFailed(f"{folder} cannot be written: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _is_whole(folder: Path, fingerprint: str, kind: type[Manifest]) -> bool:
    try:
        # Every byte: an export is what repairs a folder.
        read_manifest(folder, fingerprint, kind, as_exported=True)
    except (ModelFilesMissing, ModelFilesInvalid):
        return False
    return True


def _write_parts(model: SummaryLvlm, folder: Path) -> None:
    """What stands beside the graphs: words, tokenizer, the parts of the prompt, retrieval head."""
    words = _array(model.embedding.weight)
    packed = in_eight_bits(words)
    np.save(folder / WORDS, words if packed is None else packed[0])
    scales = {} if packed is None else {WORD_SCALES: packed[1]}
    model.backend_tokenizer.save(str(folder / TOKENIZER))
    before, behind = _prompt_around_image(model)
    head = model.head.state_dict()
    parts = {f"head.{name}": _array(value) for name, value in head.items()}
    save_file({"before": before, "behind": behind, **scales, **parts}, folder / PARTS)


def _prompt_around_image(
    model: SummaryLvlm,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(T, D) embeddings before an image, and behind it, where the summary tokens are the last.

    Raises ExportFailed for a model whose image is not in one piece.
    """
    ids = model.first_pass_inputs([picture()])["input_ids"]
    embeddings = _array(model.embedding(ids)[0])
    places = torch.nonzero(ids[0] == model.image_token_id).squeeze(1).tolist()
    first, last = places[0], places[-1]
    if places != list(range(first, last + 1)):
        raise ExportFailed("an image in several pieces has no export")
    # Copies: safetensors writes whole arrays alone.
    return embeddings[:first].copy(), embeddings[last + 1 :].copy()


def _text_format(model: SummaryLvlm) -> TextFormat:
    return TextFormat(
        chat_template=cast(str, model.processor.chat_template),
        special_tokens=dict(model.tokenizer.special_tokens_map),
        image_token_id=model.image_token_id,
        end_ids=model.end_ids,
    )


def _write_canary(model: SummaryLvlm, path: Path) -> None:
    """Stores the canary of a model's second pass, its logits computed by PyTorch in float32."""
    ids = model.prompt_ids(0, [("user", QUESTION)])
    with torch.inference_mode(), model.adapters.use("second_pass"):
        row = model.with_images(ids, [])
        decoding = Decoding(model.decoder, model.pad_left([row]))
        first = model.output_head(decoding.step().last_hidden_state[:, -1])
        following = model.embedding(first.argmax(-1, keepdim=True))
        second = model.output_head(decoding.step(following).last_hidden_state[:, -1])
    arrays = {
        "prompt": row,
        "next_token": following[0],
        "logits": torch.cat([first, second]),
    }
    save_file({name: _array(value) for name, value in arrays.items()}, path)


def _write_first_pass_canary(summary: LvlmSummaryModel, path: Path) -> None:
    """Stores what PyTorch makes of a picture and a text, in float32."""
    made = summary.compress([picture()])
    arrays = {
        "tokens": made.tokens[0],
        "image_embedding": made.embeddings[0],
        "text_embedding": summary.embed_text([QUESTION])[0],
    }
    # Copies: safetensors writes whole arrays alone.
    save_file({name: value.copy() for name, value in arrays.items()}, path)


def _array(tensor: torch.Tensor) -> NDArray[np.float32]:
    return tensor.detach().float().cpu().contiguous().numpy()


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
    built = folder / "built"
    plain = plain_causal_lm(model, torch.float32, adapter)
    _build(plain, model, folder, built, options)
    if precision == "int8":
        _run("the quantiser", [_QUANTISER, str(built / GRAPH)])
    for name in (GRAPH, WEIGHTS):
        (built / name).rename(folder / name)
    shutil.rmtree(built)
    return plain.config


def _store_as_published(
    model: SummaryLvlm,
    published: PreTrainedModel,
    folder: Path,
    options: Sequence[str],
) -> None:
    """Stores the written graph's matrices in the bits that they were published in."""
    built = folder / "published"
    # The same builder gives the same names to the same matrices.
    _build(published, model, folder, built, options)
    _run("the packer", [_PACKER, str(folder / GRAPH), str(built / GRAPH)])
    shutil.rmtree(built)


def _build(
    plain: PreTrainedModel,
    model: SummaryLvlm,
    folder: Path,
    target: Path,
    options: Sequence[str],
) -> None:
    """Writes graph and weights of a language model, whose tokenizer is the model's, to `target`."""
    source = folder / "source"
    with no_progress_bars():
        plain.save_pretrained(source)
    # The builder copies a tokenizer, and stops where there is none.
    model.tokenizer.save_pretrained(source)
    command = [
        _BUILDER,
        *("-m", str(source), "-i", str(source), "-o", str(target)),
        *("-c", str(target / "cache"), "-p", "fp32", "-e", "cpu"),
        *("--extra_options", "exclude_embeds=true", *options),
    ]
    _run("the model builder", command)
    shutil.rmtree(source)


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
