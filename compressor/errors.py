"""Errors of the compressor.

CompressorError
├── ModelFilesMissing      base checkpoints or trained parts are not where they should be
├── ModelFilesInvalid      they are there but do not fit together, or are damaged
├── DeviceUnavailable      this machine lacks a device or a dtype that was asked for (and ValueError)
├── ImageRefused           the model's image processor takes a picture for unusable (and ValueError)
├── BaselineUnavailable    a model's visual tokens cannot stand where summary tokens would
├── ConversationInvalid    the chat template does not render a conversation with answers (and ValueError)
├── RequestTooLong         a text or a conversation does not fit the model's context (and ValueError)
└── TrainingError
    ├── RecipeInvalid      a training recipe with unknown or contradicting fields (and ValueError)
    ├── DataInvalid        training data that cannot be used (and ValueError)
    ├── ToolMissing        a package that only training needs is not installed
    └── TrainingStopped    NaN or out of memory; the last checkpoint is usable
"""

from __future__ import annotations


class CompressorError(Exception):
    """Base of all errors raised by `compressor`."""


class ModelFilesMissing(CompressorError):  # noqa: N818
    """Base checkpoints or trained parts are not where they should be."""


class ModelFilesInvalid(CompressorError):  # noqa: N818
    """Model files are there but do not fit together, or are damaged."""


class DeviceUnavailable(CompressorError, ValueError):  # noqa: N818
    """This machine lacks a device or a dtype that was asked for."""


class ImageRefused(CompressorError, ValueError):  # noqa: N818
    """The model's image processor refuses a picture; `index` is its place in the batch."""

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(f"the model cannot read picture {index} of the batch: {reason}")
        self.index = index
        self.reason = reason


class BaselineUnavailable(CompressorError):  # noqa: N818
    """A model's visual tokens cannot stand where summary tokens would."""


class ConversationInvalid(CompressorError, ValueError):  # noqa: N818
    """The chat template does not render a conversation with answers in it."""


class RequestTooLong(CompressorError, ValueError):  # noqa: N818
    """A text or a conversation does not fit the model's context."""


class TrainingError(CompressorError):
    """Base of the errors of a training run."""


class RecipeInvalid(TrainingError, ValueError):  # noqa: N818
    """A training recipe with unknown or contradicting fields."""


class DataInvalid(TrainingError, ValueError):  # noqa: N818
    """Training data that cannot be used."""


class ToolMissing(TrainingError):  # noqa: N818
    """A package that only training needs is not installed."""


class TrainingStopped(TrainingError):  # noqa: N818
    """NaN or out of memory stopped the run; the last checkpoint is usable."""
