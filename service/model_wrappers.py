"""A summary model as one meets it through a library: tokens been through a codec, embeddings
through eight bits.

Knows nothing of files. What is measured through it is what a stored image gives.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from compressor.ports import ModelDescription, Summary, SummaryModel
from index.codecs.scalar import TokenCodec
from index.vectors.arithmetic import round_to_int8, unit

# A summary model that hands everything on to another: what wrappers over the port share.


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


class StoredSummaryModel(WrappedSummaryModel):
    """See SummaryModel. Counts the bytes that the codec writes."""

    def __init__(self, model: SummaryModel, codec: TokenCodec) -> None:
        super().__init__(model)
        self._codec = codec
        self._images = self._bytes = 0

    @property
    def token_bytes(self) -> float:
        """Mean bytes of an image's tokens so far."""
        return self._bytes / max(1, self._images)

    def compress(self, images: Sequence[Image]) -> Summary:
        """See SummaryModel. Raises CompressorError, index.errors.LibraryError."""
        summary = super().compress(images)
        if not len(images):
            return summary
        return Summary(self.through_codec(summary.tokens), unit(round_to_int8(summary.embeddings)))

    def through_codec(self, tokens: NDArray[np.float32]) -> NDArray[np.float32]:
        """Tokens (B, K, D) as they are read back. Raises index.errors.LibraryError."""
        coded = self._codec.encode(tokens)
        self._images += len(coded)
        self._bytes += sum(map(len, coded))
        return np.stack([self._codec.decode(data, *tokens.shape[1:]) for data in coded])
