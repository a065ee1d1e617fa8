"""The models that the service can run, by name; and what comes with the default one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from compressor.errors import ExportFailed
from compressor.ports import Generator, SummaryModel, TextReader
from index.codecs.registry import state_files
from service.errors import UnknownModel
from service.model_wrappers import FirstTokensModel
from service.settings import Settings

if TYPE_CHECKING:
    from compressor.fwd2bot.generator import LvlmGenerator
    from compressor.fwd2bot.onnx_engine.generator import OnnxGenerator
    from compressor.fwd2bot.onnx_engine.summary_model import OnnxSummaryModel
    from compressor.fwd2bot.placement import Placement
    from compressor.fwd2bot.summary_model import LvlmSummaryModel

log = logging.getLogger(__name__)

# Imports of the model wait until a function needs it: PyTorch takes seconds, a service that runs
# exported passes has no use for it, and /livez is answered meanwhile.


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
    # Whether both passes have computed an example while they were loaded.
    is_warm: bool = False

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
    from compressor.fwd2bot.fingerprint import fingerprint

    placement = _placement(settings)
    models = _passes(
        settings,
        placement,
        fingerprint(WEIGHTS),
        lambda: load_default(settings.model_dir, placement=placement),
    )
    return models._replace(
        codec_state=_codec_state(WEIGHTS),
        calibration=_calibration(WEIGHTS),
        text_reader=_text_reader(settings),
        # Its towers see 288 x 288 px, in which the letters of most signs are a blur.
        reads_text=False,
        kept_tokens=KEPT_TOKENS,
    )


def _published_default() -> Any:
    from compressor.default_model.build import published_language_model

    return published_language_model()


def _lvlm(settings: Settings) -> Models:
    from compressor.fwd2bot.fingerprint import fingerprint

    adapters = settings.adapters
    placement = _placement(settings)

    def load() -> tuple[LvlmSummaryModel, LvlmGenerator]:
        # Registers the default model's base, which may be in the folder like any other LVLM.
        import compressor.default_model.soft_word_llava  # noqa: F401
        from compressor.fwd2bot.load import load_production

        return load_production(
            settings.model_dir, adapters, settings.soft_words, placement=placement
        )

    # Without adapters, what the model is called depends on the files of the LVLM.
    known = None if adapters is None else fingerprint(adapters)
    models = _passes(settings, placement, known, load)
    models = models._replace(text_reader=_text_reader(settings))
    if adapters is None:
        return models
    return models._replace(
        codec_state=_codec_state(adapters), calibration=_calibration(adapters)
    )


def _passes(
    settings: Settings,
    placement: Placement,
    fingerprint: str | None,
    load: Callable[[], tuple[LvlmSummaryModel, LvlmGenerator]],
) -> Models:
    """Both passes on the engines in the settings; `load` is only called where PyTorch is needed.

    Raises CompressorError where a named engine cannot serve.
    """
    first = _exported_first_pass(settings, placement, fingerprint)
    if first is not None:
        second = _exported_second_pass(settings, first)
        if second is not None:
            # Their canaries are such examples.
            return Models(first, second, is_warm=True)
    summary, generator = load()
    return Models(first or summary, _second_pass(settings, summary, generator))


def _exported_first_pass(
    settings: Settings, placement: Placement, fingerprint: str | None
) -> OnnxSummaryModel | None:
    engine = settings.first_pass_engine
    if engine == "torch" or fingerprint is None or not placement.is_plain_cpu:
        if engine == "onnx":
            raise ExportFailed(
                "the engine onnx runs the first pass of a model with adapters, on a CPU in float32"
            )
        return None
    # ONNX Runtime is only loaded where it is used.
    from compressor.fwd2bot.exported_passes import UNUSABLE, load_first_pass, say_why

    try:
        return load_first_pass(settings.model_dir, fingerprint)
    except UNUSABLE as error:
        if engine == "onnx":
            raise
        say_why("first pass of ONNX Runtime", error)
    log.info("The first pass runs in PyTorch.")
    return None


def _exported_second_pass(
    settings: Settings, first: OnnxSummaryModel
) -> OnnxGenerator | None:
    from compressor.fwd2bot.exported_passes import (
        EXPORTED_AS,
        UNUSABLE,
        load_second_pass,
        say_why,
    )

    engine = settings.second_pass_engine
    if engine not in ("auto", *EXPORTED_AS):
        return None
    precisions = [EXPORTED_AS[engine]] if engine != "auto" else [*EXPORTED_AS.values()]
    try:
        return load_second_pass(
            first.text_side,
            settings.model_dir,
            first.fingerprint,
            precisions,
            settings.prefix_cache_bytes,
        )
    except UNUSABLE as error:
        if engine != "auto":
            raise
        say_why("second pass of ONNX Runtime", error)
    return None


def _second_pass(
    settings: Settings, summary: SummaryModel, generator: LvlmGenerator
) -> Generator:
    """The generator of the engine in the settings, of a model in PyTorch.

    Raises CompressorError where a named engine cannot serve.
    """
    from compressor.fwd2bot.second_pass_engines import ENGINES

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
    # Checked here, so that a mistake costs seconds and not the time to load a model; a CPU is
    # always there.
    if not placement.is_plain_cpu:
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

# What loads a model's language model as it was published, for those published in four bits.
PUBLISHED: dict[str, Callable[[], Any]] = {
    "default": _published_default,
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
    """The model that the settings name in PyTorch, without their engines and their reader.

    For what answers no question. Raises UnknownModel, CompressorError.
    """
    in_torch = {
        "first_pass_engine": "torch",
        "second_pass_engine": "torch",
        "ocr": "off",
    }
    return load_models(settings.model_copy(update=in_torch))


def build_default(folder: Path) -> Path:
    """Converts the default model's checkpoints into a folder inside `folder`, unless it is there.

    Returns that folder. Raises ModelFilesMissing or ModelFilesInvalid.
    """
    from compressor.default_model.build import build

    return build(folder)


def export_passes(settings: Settings) -> Iterator[Path | ExportFailed]:
    """Exports the passes of the model for the engines in the settings, unless that is done.

    Yields the folder of each, or why there is none. Raises UnknownModel, CompressorError.
    """
    wants_first = settings.first_pass_engine != "torch"
    wants_second = settings.second_pass_engine not in ("torch", "vllm")
    if not wants_first and not wants_second:
        return
    from compressor.fwd2bot.exported_passes import EXPORTED_AS
    from compressor.fwd2bot.generator import LvlmGenerator
    from compressor.fwd2bot.onnx_engine.export import export, export_first_pass
    from compressor.fwd2bot.summary_model import LvlmSummaryModel

    models = load_in_torch(settings.model_copy(update={"device": "cpu"}))
    summary, generator = models.summary, models.generator
    assert isinstance(summary, LvlmSummaryModel), "the engine is torch"
    assert isinstance(generator, LvlmGenerator), "the engine is torch"
    if wants_second:
        preferred = next(iter(EXPORTED_AS.values()))
        precision = EXPORTED_AS.get(settings.second_pass_engine, preferred)
        yield _folder_or_why(
            lambda: export(
                generator.model, summary.fingerprint, settings.model_dir, precision
            )
        )
    if wants_first:
        published = PUBLISHED.get(settings.model)
        yield _folder_or_why(
            lambda: export_first_pass(summary, settings.model_dir, published)
        )


def _folder_or_why(export_pass: Callable[[], Path]) -> Path | ExportFailed:
    try:
        return export_pass()
    except ExportFailed as error:
        return error
