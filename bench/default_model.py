"""The default model in this process, as the service loads it, and its shapes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from compressor.default_model.build import KEPT_TOKENS, WEIGHTS, build, load_lvlm
from compressor.fwd2bot.fingerprint import fingerprint
from compressor.fwd2bot.generator import LvlmGenerator
from compressor.fwd2bot.model import SummaryLvlm
from compressor.fwd2bot.summary_model import LvlmSummaryModel
from service.settings import Settings

TOKENS_SHAPE = (KEPT_TOKENS, 576)  # (K, D) of a stored image
EMBEDDING_SIZE = 256  # E


@dataclass(frozen=True)
class Model:
    """Both passes, and the LVLM below them."""

    lvlm: SummaryLvlm
    summary_model: LvlmSummaryModel
    generator: LvlmGenerator


def load() -> Model:
    """The default model, from the folder where the service finds it too."""
    lvlm = load_lvlm(Settings().model_dir)
    return Model(
        lvlm, LvlmSummaryModel(lvlm, fingerprint(WEIGHTS)), LvlmGenerator(lvlm)
    )


def base_folder() -> Path:
    """The folder of the built base model."""
    return build(Settings().model_dir)
