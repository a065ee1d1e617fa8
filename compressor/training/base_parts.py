"""Tunes an LVLM itself, before it has summary tokens: visual instruction tuning (arXiv 2304.08485).

A LoRA on the language model and some of the base's own modules (the projector) learn to answer from
all visual tokens. What was learnt is a small folder of parts, which `merge` folds into the LVLM:

    base_adapter.safetensors   the LoRA in PEFT's names, float16
    base_modules.safetensors   the modules that were trained in full, float16
    base.json                  rank, alpha and the name of the base model
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModelForImageTextToText, PreTrainedModel

from compressor.errors import ModelFilesInvalid, ModelFilesMissing
from compressor.fwd2bot.model import SummaryLvlm
from compressor.fwd2bot.processor import load_processor
from compressor.fwd2bot.progress_bars import no_progress_bars

FILE_NAME = "base.json"
_ADAPTER = "base_adapter.safetensors"
_MODULES = "base_modules.safetensors"
FILES = (FILE_NAME, _ADAPTER, _MODULES)
_VERSION = 1
_PREFIX = "base_model.model."  # that PEFT puts before a layer's own name


def make_trainable(model: SummaryLvlm, modules: Sequence[str]) -> None:
    """Lets the base's modules of these names train. Raises ModelFilesInvalid for one it lacks."""
    for name in modules:
        for module in _modules_named(model.base, name):
            module.requires_grad_(True)


def _modules_named(base: nn.Module, name: str) -> list[nn.Module]:
    modules = [
        module
        for path, module in base.named_modules()
        if f".{path}".endswith(f".{name}")
    ]
    if not modules:
        raise ModelFilesInvalid(f"{type(base).__name__} has no module {name}")
    return modules


def is_within(name: str, modules: Sequence[str]) -> bool:
    """Whether a parameter of this full name is inside one of the modules."""
    return any(f".{module}." in f".{name}" for module in modules)


def save(model: SummaryLvlm, modules: Sequence[str], folder: Path) -> None:
    """Writes the parts; the record that makes them complete comes last."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE_NAME).unlink(missing_ok=True)
    # Answers are given under the second adapter: the base's own LoRA is trained in its place.
    adapter = get_peft_model_state_dict(model.lvlm, adapter_name="second_pass")
    named = {name.removeprefix(_PREFIX): value for name, value in adapter.items()}
    save_file(_halves(named), folder / _ADAPTER)
    trained = {}
    for name, parameter in model.base.named_parameters():
        if is_within(name, modules):
            trained[name] = parameter.detach()
    save_file(_halves(trained), folder / _MODULES)
    record = {
        "format_version": _VERSION,
        "base_model": model.config.base_model,
        "lora_rank": model.config.lora_rank,
        "lora_alpha": model.config.lora_alpha,
        "modules": list(modules),
    }
    (folder / FILE_NAME).write_text(json.dumps(record, indent=2) + "\n")


def _halves(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: value.detach().to(torch.float16).contiguous().clone()
        for name, value in state.items()
    }


def load(model: SummaryLvlm, folder: Path) -> None:
    """Takes up what `save` wrote, to train it further.

    Raises ModelFilesMissing, ModelFilesInvalid.
    """
    record, adapter, modules = _read(folder)
    config = model.config
    rank, alpha = record["lora_rank"], record["lora_alpha"]
    if (rank, alpha) != (config.lora_rank, config.lora_alpha):
        raise ModelFilesInvalid(
            f"{folder} has a LoRA of rank {rank} and alpha {alpha}, the recipe asks for "
            f"{config.lora_rank} and {config.lora_alpha}"
        )
    named = {_PREFIX + name: value.float() for name, value in adapter.items()}
    expected = get_peft_model_state_dict(model.lvlm, adapter_name="second_pass")
    state = dict(model.base.named_parameters())
    if set(named) != set(expected) or not set(modules) <= set(state):
        raise ModelFilesInvalid(f"{folder} does not fit the model")
    set_peft_model_state_dict(model.lvlm, named, adapter_name="second_pass")
    with torch.no_grad():
        for name, value in modules.items():
            state[name].copy_(value)


def write_merged(base: Path, parts: Path, folder: Path) -> None:
    """The LVLM in `base` with the parts folded in, as a folder of its own.

    Raises ModelFilesMissing, ModelFilesInvalid.
    """
    model = AutoModelForImageTextToText.from_pretrained(
        base, dtype=torch.float32, local_files_only=True, trust_remote_code=False
    )
    merge(model, parts)
    with no_progress_bars():
        model.save_pretrained(folder)
    load_processor(base, model.config).save_pretrained(folder)


def merge(base: PreTrainedModel, folder: Path) -> None:
    """Folds the parts in the folder into the LVLM. Raises ModelFilesMissing, ModelFilesInvalid."""
    record, adapter, modules = _read(folder)
    scaling = record["lora_alpha"] / record["lora_rank"]
    try:
        with torch.no_grad():
            for name, down in adapter.items():
                if not name.endswith(".lora_A.weight"):
                    continue
                layer = base.get_submodule(name.removesuffix(".lora_A.weight"))
                weight = layer.weight
                up = adapter[name.replace(".lora_A.", ".lora_B.")]
                assert isinstance(weight, Tensor)
                weight += scaling * (up.float() @ down.float()).to(weight.dtype)
        state = base.state_dict()
        for name, value in modules.items():
            state[name].copy_(value)
    except (KeyError, AttributeError, RuntimeError) as error:
        raise ModelFilesInvalid(f"{folder} does not fit the model: {error}") from error


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, Tensor]]:
    try:
        record = json.loads((folder / FILE_NAME).read_text())
        if record["format_version"] != _VERSION:
            raise ModelFilesInvalid(
                f"{folder / FILE_NAME} is of a version that this program does not know"
            )
        return record, load_file(folder / _ADAPTER), load_file(folder / _MODULES)
    except FileNotFoundError as error:
        raise ModelFilesMissing(f"{folder} is not complete: {error}") from error
    except (ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ModelFilesInvalid(f"{folder}: not the parts of a base model") from error
