"""Errors of the compressor.

CompressorError
├── ModelFilesMissing      base checkpoints or trained parts are not where they should be
├── ModelFilesInvalid      they are there but do not fit together, or are damaged
├── DeviceUnavailable      this machine lacks a device or a dtype that was asked for (also a ValueError)
├── RequestTooLong         a text or a conversation does not fit the model's context (also a ValueError)
└── TrainingError
    ├── RecipeInvalid      a training recipe with unknown or contradicting fields (also a ValueError)
    ├── DataInvalid        training data that cannot be used (also a ValueError)
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
