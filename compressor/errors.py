"""Errors of the compressor.

CompressorError
├── ModelFilesMissing      base checkpoints or trained parts are not where they should be
├── ModelFilesInvalid      they are there but do not fit together, or are damaged
├── DeviceUnavailable      this machine lacks the device or dtype asked for (and ValueError)
├── ImageRefused           the model's image processor takes a picture for unusable (and ValueError)
├── BaselineUnavailable    a model's visual tokens cannot stand where summary tokens would
├── ConversationInvalid    the chat template renders no answers (and ValueError)
├── ConstraintInvalid      a form that no answer can be held to (and ValueError)
├── RequestTooLong         a text or conversation does not fit the context (and ValueError)
├── EngineFailed           the engine of the second pass stopped at a request
├── EngineUnreachable      the server of an engine does not answer, or not in time
├── EngineOfOtherModel     the server of an engine has no model of this fingerprint
├── EngineMissing          the package that an engine needs is not installed
├── EngineRefused          an engine computes otherwise on this CPU than where it was exported
├── ExportFailed           a language model could not be exported for an engine
├── TextReaderMissing      the package that reads text in pictures is not installed
├── TextReaderFailed       the text in a picture could not be read
└── TrainingError
    ├── RecipeInvalid      a training recipe with unknown or contradicting fields (and ValueError)
    ├── DataInvalid        training data that cannot be used (and ValueError)
    ├── ToolMissing        a package that only training needs is not installed
    └── TrainingStopped    NaN or out of memory; the last checkpoint is usable
"""

from __future__ import annotations


class CompressorError(Exception):
    """Base of all errors raised by `compressor`."""


class ModelFilesMissing(CompressorError):
    """Base checkpoints or trained parts are not where they should be."""


class ModelFilesInvalid(CompressorError):
    """Model files are there but do not fit together, or are damaged."""


class DeviceUnavailable(CompressorError, ValueError):
    """This machine lacks a device or a dtype that was asked for."""


class ImageRefused(CompressorError, ValueError):
    """The model's image processor refuses a picture; `index` is its place in the batch."""

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(
            f"the model cannot read picture {index} of the batch: {reason}"
        )
        self.index = index
        self.reason = reason


class BaselineUnavailable(CompressorError):
    """A model's visual tokens cannot stand where summary tokens would."""


class ConversationInvalid(CompressorError, ValueError):
    """The chat template does not render a conversation with answers in it."""


class ConstraintInvalid(CompressorError, ValueError):
    """A form that no answer can be held to: not a JSON schema, or one that is not supported."""


class RequestTooLong(CompressorError, ValueError):
    """A text or a conversation does not fit the model's context."""


class EngineFailed(CompressorError):
    """The engine of the second pass stopped at a request."""


class EngineUnreachable(CompressorError):
    """The server of an engine does not answer, or not in time."""


class EngineOfOtherModel(CompressorError):
    """The server of an engine serves no model of this fingerprint."""


class EngineMissing(CompressorError):
    """The package that an engine needs is not installed."""


class EngineRefused(CompressorError):
    """An engine computes otherwise on this CPU than where its model was exported."""


class ExportFailed(CompressorError):
    """A language model could not be exported for an engine."""


class TextReaderMissing(CompressorError):
    """The package that reads text in pictures is not installed."""


class TextReaderFailed(CompressorError):
    """The text in a picture could not be read."""


class TrainingError(CompressorError):
    """Base of the errors of a training run."""


class RecipeInvalid(TrainingError, ValueError):
    """A training recipe with unknown or contradicting fields."""


class DataInvalid(TrainingError, ValueError):
    """Training data that cannot be used."""


class ToolMissing(TrainingError):
    """A package that only training needs is not installed."""


class TrainingStopped(TrainingError):
    """NaN or out of memory stopped the run; the last checkpoint is usable."""
