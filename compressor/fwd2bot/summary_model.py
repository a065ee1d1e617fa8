"""First pass: images to summary tokens and retrieval embeddings (port `SummaryModel`).

Runs in chunks, so that memory does not grow with the batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL.Image import Image

from compressor.errors import ImageRefused
from compressor.fwd2bot.model import SummaryLvlm
from compressor.ports import Mode, ModelDescription, Summary


class LvlmSummaryModel:
    """Compresses with the LVLM in this process."""

    def __init__(
        self,
        model: SummaryLvlm,
        fingerprint: str,
        batch_size: int = 16,
        *,
        mode: Mode = "adapters",
    ) -> None:
        self._model = model
        self._fingerprint = fingerprint
        self._batch_size = batch_size
        self._mode = mode

    @property
    def model(self) -> SummaryLvlm:
        """The model whose first pass this is."""
        return self._model

    @property
    def fingerprint(self) -> str:
        """See `SummaryModel`."""
        return self._fingerprint

    @property
    def description(self) -> ModelDescription:
        """See `SummaryModel`."""
        config = self._model.config
        return ModelDescription(config.base_model, self._mode, config.kept_counts)

    @property
    def tokens_shape(self) -> tuple[int, int]:
        """See `SummaryModel`."""
        return self._model.config.token_count, self._model.token_size

    @property
    def embedding_size(self) -> int:
        """See `SummaryModel`."""
        return self._model.config.embedding_size

    def compress(self, images: Sequence[Image]) -> Summary:
        """See `SummaryModel`. The index of an ImageRefused counts over all images."""
        # An empty part first, so that no images give arrays of the right shape and not an error.
        tokens: list[NDArray[np.float32]] = [
            np.empty((0, *self.tokens_shape), np.float32)
        ]
        embeddings: list[NDArray[np.float32]] = [
            np.empty((0, self.embedding_size), np.float32)
        ]
        with torch.inference_mode():
            # In chunks, so that activations do not grow with the number of images.
            for start in range(0, len(images), self._batch_size):
                chunk = images[start : start + self._batch_size]
                try:
                    inputs = self._model.first_pass_inputs(chunk)
                except ImageRefused as refusal:
                    # The model counts within the chunk, the caller within all images.
                    raise ImageRefused(
                        start + refusal.index, refusal.reason
                    ) from refusal
                result = self._model.first_pass(inputs)
                assert result.hidden_states is not None, "only a baseline has none"
                # To the CPU at once, so that the device holds the results of one chunk alone.
                tokens.append(result.tokens.cpu().numpy())
                embedded = self._model.head.embed_image(
                    result.hidden_states, result.tokens
                )
                embeddings.append(embedded.cpu().numpy())
        return Summary(np.concatenate(tokens), np.concatenate(embeddings))

    def embed_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See `SummaryModel`."""
        if not texts:
            return np.empty((0, self.embedding_size), np.float32)
        with torch.inference_mode():
            embedded = self._model.head.embed_text(self._model.text_states(texts))
        result: NDArray[np.float32] = embedded.cpu().numpy()
        return result
