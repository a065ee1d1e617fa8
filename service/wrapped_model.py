"""A summary model that hands everything on to another: what wrappers over the port share.

Knows nothing of what a wrapper adds.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from compressor.ports import ModelDescription, Summary, SummaryModel


class WrappedSummaryModel:
    """See SummaryModel."""

    def __init__(self, model: SummaryModel) -> None:
        self._model = model

    @property
    def fingerprint(self) -> str:
        """See SummaryModel."""
        return self._model.fingerprint

    @property
    def description(self) -> ModelDescription:
        """See SummaryModel."""
        return self._model.description

    @property
    def tokens_shape(self) -> tuple[int, int]:
        """See SummaryModel."""
        return self._model.tokens_shape

    @property
    def embedding_size(self) -> int:
        """See SummaryModel."""
        return self._model.embedding_size

    def compress(self, images: Sequence[Image]) -> Summary:
        """See SummaryModel."""
        return self._model.compress(images)

    def embed_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See SummaryModel."""
        return self._model.embed_text(texts)
