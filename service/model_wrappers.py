"""Wrappers over a summary model.

`StoredSummaryModel` behaves as the model does behind a library, so that an evaluation measures what
a stored image gives.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from compressor.ports import ModelDescription, Summary, SummaryModel
from index.codecs.scalar import TokenCodec
from index.vectors.arithmetic import round_to_int8, unit


class WrappedSummaryModel:
    """A summary model that delegates every call; the base of the wrappers."""

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


class FirstTokensModel(WrappedSummaryModel):
    """A model of whose summary tokens the first `count` are kept of each image."""

    def __init__(self, model: SummaryModel, count: int) -> None:
        super().__init__(model)
        self._count = count

    @property
    def tokens_shape(self) -> tuple[int, int]:
        """See SummaryModel."""
        return self._count, super().tokens_shape[1]

    def compress(self, images: Sequence[Image]) -> Summary:
        """See SummaryModel."""
        summary = super().compress(images)
        return Summary(summary.tokens[:, : self._count], summary.embeddings)


class StoredSummaryModel(WrappedSummaryModel):
    """A model whose tokens went through a codec and whose embeddings went through eight bits."""

    def __init__(self, model: SummaryModel, codec: TokenCodec) -> None:
        super().__init__(model)
        self._codec = codec
        self._image_count = 0
        self._byte_count = 0

    @property
    def token_bytes(self) -> float:
        """Mean bytes of an image's encoded tokens so far."""
        return self._byte_count / max(1, self._image_count)

    def compress(self, images: Sequence[Image]) -> Summary:
        """See SummaryModel. Raises CompressorError, index.errors.LibraryError."""
        summary = super().compress(images)
        if not len(images):
            return summary
        return Summary(
            self.through_codec(summary.tokens), unit(round_to_int8(summary.embeddings))
        )

    def through_codec(self, tokens: NDArray[np.float32]) -> NDArray[np.float32]:
        """Tokens (B, K, D), encoded and decoded. Raises index.errors.LibraryError."""
        encoded = self._codec.encode(tokens)
        self._image_count += len(encoded)
        self._byte_count += sum(map(len, encoded))
        _, token_count, token_dim = tokens.shape
        return np.stack(
            [self._codec.decode(data, token_count, token_dim) for data in encoded]
        )
