"""Trained parts on disk: both adapters (PEFT layout), what belongs to neither, the settings. safetensors and JSON only.

Knows nothing of where the base model comes from. A folder:

    summary.json                       SummaryConfig
    summary.safetensors                summary tokens, readout, retrieval head
    first_pass/ second_pass/           adapter_config.json, adapter_model.safetensors
    recipes.json README.md             how they came to be (provenance.py)
    heads.safetensors words.json       only with the default model: its projector's heads
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import torch
from peft import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from compressor.adapters import ADAPTERS
from compressor.errors import ModelFilesInvalid, ModelFilesMissing
from compressor.lvlm import SummaryLvlm
from compressor.summary_config import FILE_NAME, SummaryConfig

_OWN_PARTS = ("embedding.summary", "readout.", "head.")
# What decides the tokens and embeddings; a model card may change without changing a fingerprint.
_FINGERPRINTED = (FILE_NAME, "words.json", "*.safetensors", "*/adapter_config.json", "*/*.safetensors")


def save(model: SummaryLvlm, folder: Path) -> None:
    """Writes both adapters (float16) and the model's own trained parts (float32) into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ADAPTERS:
        state = get_peft_model_state_dict(model.lvlm, adapter_name=name)
        (folder / name).mkdir(exist_ok=True)
        halves = {key: value.to(torch.float16).contiguous() for key, value in state.items()}
        save_file(halves, folder / name / "adapter_model.safetensors")
        settings = model.lvlm.peft_config[name].to_dict()
        settings["target_modules"] = sorted(settings["target_modules"])
        settings["inference_mode"] = True
        readable = {key: value for key, value in settings.items() if _is_json(value)}
        (folder / name / "adapter_config.json").write_text(json.dumps(readable, indent=2, sort_keys=True) + "\n")
    own = {key: value for key, value in model.state_dict().items() if key.startswith(_OWN_PARTS)}
    save_file({key: value.contiguous().clone() for key, value in own.items()}, folder / "summary.safetensors")
    model.config.save(folder)


def load(model: SummaryLvlm, folder: Path) -> None:
    """Loads what `save` wrote, budgets too. Raises ModelFilesMissing or ModelFilesInvalid."""
    config = SummaryConfig.load(folder)
    if replace(config, budgets=()) != replace(model.config, budgets=()):
        raise ModelFilesInvalid(f"{folder} was trained with other settings or for another base model")
    try:
        for name in ADAPTERS:
            state = load_file(folder / name / "adapter_model.safetensors")
            floats = {key: value.float() for key, value in state.items()}
            expected = get_peft_model_state_dict(model.lvlm, adapter_name=name)
            if set(state) != set(expected):
                raise ModelFilesInvalid(f"{folder / name} does not fit the base model")
            set_peft_model_state_dict(model.lvlm, floats, adapter_name=name)
        own = load_file(folder / "summary.safetensors")
        different = {key for key in model.state_dict() if key.startswith(_OWN_PARTS)} ^ set(own)
        if different:
            raise ModelFilesInvalid(f"{folder / 'summary.safetensors'} does not fit: {', '.join(sorted(different))}")
        model.load_state_dict(own, strict=False)
        model.config = config
    except FileNotFoundError as error:
        raise ModelFilesMissing(f"{folder} is not complete: {error}") from error
    except (SafetensorError, RuntimeError, ValueError) as error:
        raise ModelFilesInvalid(f"{folder} does not fit the model: {error}") from error


def fingerprint(folder: Path) -> str:
    """32 hex digits of the SHA-256 over all files that decide tokens and embeddings."""
    digest = hashlib.sha256()
    for path in sorted({path for pattern in _FINGERPRINTED for path in folder.glob(pattern)}):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(folder).as_posix()} {content}\n".encode())
    return digest.hexdigest()[:32]


def _is_json(value: object) -> bool:
    try:
        json.dumps(value)
    except TypeError:
        return False
    return True
