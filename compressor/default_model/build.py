"""Builds the default model from packages' base checkpoints and this repository's trained parts.

Reading the packages' checkpoints takes about 20 s, so the result is kept as an ordinary Hugging
Face folder. `weights/` holds what was trained: the base's parts (`training.base_parts`), and the
adapters, summary tokens and retrieval head (`fwd2bot.adapter_folder`).
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from compressor.errors import ModelFilesMissing
from compressor.fwd2bot.config import SummaryConfig
from compressor.fwd2bot.fingerprint import fingerprint
from compressor.fwd2bot.placement import ANYWHERE, Placement

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from compressor.fwd2bot.generator import LvlmGenerator
    from compressor.fwd2bot.model import SummaryLvlm
    from compressor.fwd2bot.summary_model import LvlmSummaryModel

# PyTorch is imported where it is needed: a service that runs exported passes reads the names here.

WEIGHTS = Path(__file__).parent / "weights"
KEPT_TOKENS = 8  # of an image, unless an upload asks for another of the budgets
_SOURCES = (
    "base_model.py",
    "checkpoints.py",
    "clip_checkpoint.py",
    "names.py",
    "soft_word_llava.py",
    "soft_word_projector.py",
    "two_towers.py",
    "vision_tower.py",
)


def build(folder: Path) -> Path:
    """The base LVLM as a Hugging Face folder inside `folder`, one for an edition of its parts.

    The folder's name is the edition; it appears when it is complete. Raises ModelFilesMissing or
    ModelFilesInvalid.
    """
    from compressor.default_model.base_model import write_base

    edition = folder / f"base-{_edition()}"
    if edition.exists():
        return edition
    # Written beside its place and renamed when complete, so that a folder that exists is whole.
    temporary = folder / f"{edition.name}.{os.getpid()}.tmp"
    write_base(temporary, WEIGHTS)
    try:
        temporary.rename(edition)
    except OSError:
        # Another process was quicker, and its folder is the same.
        shutil.rmtree(temporary)
    return edition


def load_lvlm(folder: Path, *, placement: Placement = ANYWHERE) -> SummaryLvlm:
    """The default model as it is served, both adapters merged; `folder` keeps the built base.

    Raises ModelFilesMissing, ModelFilesInvalid or DeviceUnavailable.
    """
    from compressor.fwd2bot.load import load_adapted

    # The base is made from the same weights, so its name is not compared with the adapters': other
    # releases of Transformers write another config.json, which is a part of the name.
    config = SummaryConfig.load(WEIGHTS)
    return load_adapted(build(folder), WEIGHTS, config, placement=placement)


def load_default(
    folder: Path, *, placement: Placement = ANYWHERE
) -> tuple[LvlmSummaryModel, LvlmGenerator]:
    """First and second pass of the default model, sharing one set of weights.

    Raises what `load_lvlm` raises.
    """
    from compressor.fwd2bot.generator import LvlmGenerator
    from compressor.fwd2bot.summary_model import LvlmSummaryModel

    model = load_lvlm(folder, placement=placement)
    summary = LvlmSummaryModel(model, fingerprint(WEIGHTS))
    return summary, LvlmGenerator(model)


def published_language_model() -> PreTrainedModel:
    """The language model in float32 as its package has it. Raises ModelFilesMissing."""
    from compressor.default_model.checkpoints import load_language_model, load_tokenizer

    language: PreTrainedModel = load_language_model(len(load_tokenizer()))
    # Its weights are float32, so that Transformers may save it as any other.
    del language.hf_quantizer
    return language


def _edition() -> str:
    """A hash of everything that decides what `build` writes."""
    from compressor.default_model.names import NAMES_FILE
    from compressor.training import base_parts

    files = [NAMES_FILE]
    files += [WEIGHTS / name for name in base_parts.FILES]
    # Sources too: a renamed attribute makes another state of the same weights.
    files += [Path(__file__).with_name(name) for name in _SOURCES]
    digest = hashlib.sha256()
    for path in files:
        if not path.exists():
            raise ModelFilesMissing(f"no {path.name} in {path.parent}")
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
