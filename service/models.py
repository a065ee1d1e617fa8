"""The models that the service can run, by name; and what comes with the default one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from compressor.ports import Generator, SummaryModel, TextReader
from index.codecs.registry import state_files
from service.errors import UnknownModel
from service.model_wrappers import FirstTokensModel
from service.settings import Settings

if TYPE_CHECKING:
    from compressor.fwd2bot.placement import Placement

# Imports of the model wait until a function needs it: torch takes seconds, and the service answers
# /livez meanwhile.


class Models(NamedTuple):
    """Both passes of a model, and what was fitted to its tokens and embeddings."""

    summary: SummaryModel
    generator: Generator
    codec_state: Path | None = (
        None  # trained state of a codec, which the file is named after
    )
    calibration: Path | None = None  # curves from scores to probabilities
    text_reader: TextReader | None = None  # reads text in pictures for the model
    reads_text: bool = True  # whether the model's own tokens keep text in pictures
    # Summary tokens to keep of an image whose upload does not say; all if None.
    kept_tokens: int | None = None

    @property
    def as_kept(self) -> SummaryModel:
        """The first pass with as many tokens as are kept of an image whose upload does not say."""
        if self.kept_tokens is None:
            return self.summary
        return FirstTokensModel(self.summary, self.kept_tokens)


# Called once, on the thread that will own the model.
ModelFactory = Callable[[Settings], Models]


def _default(settings: Settings) -> Models:
    from compressor.default_model.build import KEPT_TOKENS, WEIGHTS, load_default

    summary, generator = load_default(
        settings.model_dir, placement=_placement(settings)
    )
    return Models(
        summary,
        _second_pass(settings, summary, generator),
        codec_state=_codec_state(WEIGHTS),
        calibration=_calibration(WEIGHTS),
        text_reader=_text_reader(settings),
        # Its towers see 288 x 288 px, in which the letters of most signs are a blur.
        reads_text=False,
        kept_tokens=KEPT_TOKENS,
    )


def _lvlm(settings: Settings) -> Models:
    # Registers the default model's base, which may be in the folder like any other LVLM.
    import compressor.default_model.soft_word_llava  # noqa: F401
    from compressor.fwd2bot.load import load_production

    adapters = settings.adapters
    summary, generator = load_production(
        settings.model_dir,
        adapters,
        settings.soft_words,
        placement=_placement(settings),
    )
    generator = _second_pass(settings, summary, generator)
    text_reader = _text_reader(settings)
    if adapters is None:
        return Models(summary, generator, text_reader=text_reader)
    return Models(
        summary,
        generator,
        codec_state=_codec_state(adapters),
        calibration=_calibration(adapters),
        text_reader=text_reader,
    )


def _second_pass(
    settings: Settings, summary: SummaryModel, generator: Generator
) -> Generator:
    """The generator of the engine in the settings.

    Raises CompressorError where a named engine cannot serve.
    """
    from compressor.fwd2bot.generator import LvlmGenerator
    from compressor.fwd2bot.second_pass_engines import ENGINES

    assert isinstance(generator, LvlmGenerator), "what every loader makes"
    engine = ENGINES[settings.second_pass_engine]
    return engine(
        generator,
        summary.fingerprint,
        settings.model_dir,
        settings.prefix_cache_bytes,
        settings.second_pass_url,
    )


def _placement(settings: Settings) -> Placement:
    """The device and dtype of the settings. Raises compressor.errors.DeviceUnavailable."""
    from compressor.fwd2bot.placement import Placement

    placement = Placement(settings.device, settings.dtype)
    # Checked here, so that a mistake costs seconds and not the time to load a model.
    placement.resolve()
    return placement


def _text_reader(settings: Settings) -> TextReader | None:
    """The reader of the settings. Raises compressor.errors.TextReaderMissing."""
    from compressor.text_reader import RapidTextReader, is_installed

    is_wanted = settings.ocr == "on" or (settings.ocr == "auto" and is_installed())
    return RapidTextReader() if is_wanted else None


def _calibration(folder: Path) -> Path | None:
    path = folder / "calibration.json"
    return path if path.exists() else None


def _codec_state(folder: Path) -> Path | None:
    return next(iter(state_files(folder)), None)


MODELS: dict[str, ModelFactory] = {
    "default": _default,  # the small model of this repository
    "lvlm": _lvlm,  # any vision-language model in a Hugging Face folder
}


def model_factory(name: str) -> ModelFactory:
    """The factory of this name. Raises UnknownModel."""
    try:
        return MODELS[name]
    except KeyError as error:
        names = ", ".join(sorted(MODELS))
        raise UnknownModel(
            f"There is no model {name!r}; choose one of {names}."
        ) from error


def load_models(settings: Settings) -> Models:
    """The model that the settings name, loaded. Raises UnknownModel, CompressorError."""
    return model_factory(settings.model)(settings)


def load_in_torch(settings: Settings) -> Models:
    """The model that the settings name, without their engine of the second pass and their reader.

    For what answers no question. Raises UnknownModel, CompressorError.
    """
    in_torch = {"second_pass_engine": "torch", "ocr": "off"}
    return load_models(settings.model_copy(update=in_torch))


def build_default(folder: Path) -> Path:
    """Converts the default model's checkpoints into a folder inside `folder`, unless it is there.

    Returns that folder. Raises ModelFilesMissing or ModelFilesInvalid.
    """
    from compressor.default_model.build import build

    return build(folder)


def export_second_pass(settings: Settings) -> Path:
    """Exports the second pass of the model for the engine in the settings, unless that is done.

    Returns the folder. Raises UnknownModel, CompressorError.
    """
    from compressor.fwd2bot.generator import LvlmGenerator
    from compressor.fwd2bot.onnx_engine.export import export
    from compressor.fwd2bot.second_pass_engines import EXPORTED_AS

    models = load_in_torch(settings.model_copy(update={"device": "cpu"}))
    assert isinstance(models.generator, LvlmGenerator), "the engine is torch"
    preferred = next(iter(EXPORTED_AS.values()))
    return export(
        models.generator.model,
        models.summary.fingerprint,
        settings.model_dir,
        EXPORTED_AS.get(settings.second_pass_engine, preferred),
    )
