"""The table of models: from the name in the settings to what makes a summary model and its
generator.

Knows nothing of threads; a factory is called once, on the thread that will own what it returns.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from compressor.ports import Generator, SummaryModel
from index.codecs.registry import state_files
from service.errors import UnknownModel
from service.settings import Settings


class Models(NamedTuple):
    """What an engine gives: both passes, and what was fitted to their tokens and embeddings."""

    summary: SummaryModel
    generator: Generator
    codec_state: Path | None = (
        None  # trained state of a token codec, which the file is called after
    )
    calibration: Path | None = None  # curve from scores to probabilities


ModelFactory = Callable[[Settings], Models]


def _default(settings: Settings) -> Models:
    # torch takes seconds to import, and the service answers /livez meanwhile
    from compressor.default_model.build import CALIBRATION, WEIGHTS, load_default

    return Models(*load_default(settings.model_dir), _codec_state(WEIGHTS), CALIBRATION)


def _lvlm(settings: Settings) -> Models:
    from compressor.fwd2bot.load import load_production

    own = settings.adapters
    calibration = own / "calibration.json" if own and (own / "calibration.json").exists() else None
    return Models(
        *load_production(settings.model_dir, own, settings.soft_words),
        codec_state=_codec_state(own) if own else None,
        calibration=calibration,
    )


def _codec_state(folder: Path) -> Path | None:
    return next(iter(state_files(folder)), None)


MODELS: dict[str, ModelFactory] = {
    "default": _default,  # the small one put together here
    "lvlm": _lvlm,  # any that Hugging Face saved to a folder
}


def build_default(folder: Path) -> Path:
    """The folder, inside `folder`, of the default model's converted base; makes it if it is missing.

    Raises ModelFilesMissing or ModelFilesInvalid.
    """
    from compressor.default_model.build import build

    return build(folder)


def model_factory(name: str) -> ModelFactory:
    """The factory of this name. Raises UnknownModel."""
    try:
        return MODELS[name]
    except KeyError as error:
        raise UnknownModel(
            f"There is no model {name!r}; there is {', '.join(sorted(MODELS))}."
        ) from error
