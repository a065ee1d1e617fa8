"""First pass on ONNX Runtime (`FirstPassEngine`).

Shapes: B batch, T tokens, K summary tokens, D hidden size, C channels of the retrieval head.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from compressor.errors import EngineFailed, EngineRefused, ModelFilesInvalid
from compressor.fwd2bot.model import (
    DecoderStates,
    FirstPass,
    SummaryLvlm,
    mean_text_states,
)
from compressor.fwd2bot.onnx_engine.canary import FirstPassCanary
from compressor.fwd2bot.onnx_engine.folder import (
    CANARY,
    GRAPH,
    INNER,
    LAST,
    FirstPassManifest,
    read_manifest,
)
from compressor.fwd2bot.onnx_engine.session import open_session
from compressor.fwd2bot.prompts import Prompt
from compressor.fwd2bot.retrieval_head import TextStates

# In standard deviations of the states; kernels that add in another order differ by 1e-5.
_TOLERANCE = 1e-3


class OnnxFirstPassDecoder:
    """The exported language model of a first pass: embeddings in, hidden states out."""

    def __init__(self, folder: Path, fingerprint: str, threads: int) -> None:
        """Loads the folder of a model's first pass and computes its canary.

        Raises ModelFilesMissing, ModelFilesInvalid or EngineRefused.
        """
        self.manifest = read_manifest(folder, fingerprint, FirstPassManifest)
        self._session = open_session(folder / GRAPH, threads)
        self._outputs = [output.name for output in self._session.get_outputs()]
        canary = FirstPassCanary.load(folder / CANARY)
        try:
            last, layers = self.states(canary.embeddings, canary.lengths)
        except EngineFailed as error:
            raise EngineRefused(f"the canary could not be computed: {error}") from error
        canary.check(last, layers, _TOLERANCE)

    def states(
        self, embeddings: NDArray[np.float32], lengths: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(B, T, D) last states and (B, T, C) states of the retrieval head's layers.

        Of (B, T, D) embeddings; the (B,) lengths leave out padding on the right, where states mean
        nothing. Raises EngineFailed.
        """
        # ONNX Runtime's attention needs a token in every row.
        lengths = np.maximum(lengths, 1)
        places = np.arange(embeddings.shape[1])
        inputs = {
            "inputs_embeds": np.ascontiguousarray(embeddings),
            "attention_mask": (places < lengths[:, None]).astype(np.int64),
        }
        try:
            computed = self._session.run(self._outputs, inputs)
        # Its errors have no base class of their own.
        except Exception as error:
            raise EngineFailed(f"ONNX Runtime stopped: {error}") from error
        by_name = dict(zip(self._outputs, computed, strict=True))
        last = by_name[LAST]
        layers = [
            self._layer(layer, embeddings, by_name)
            for layer in self.manifest.embedding_layers
        ]
        return last, np.concatenate(layers, axis=-1)

    def _layer(
        self,
        layer: int,
        embeddings: NDArray[np.float32],
        outputs: dict[str, NDArray[np.float32]],
    ) -> NDArray[np.float32]:
        if layer == 0:
            return embeddings
        if layer == self.manifest.layers:
            return outputs[LAST]
        width = self.manifest.hidden_size
        start = width * self.manifest.inner_layers.index(layer)
        return outputs[INNER][..., start : start + width]


class OnnxFirstPass:
    """Runs a first pass: towers, readout and heads are the LVLM's, its language model exported."""

    def __init__(self, model: SummaryLvlm, folder: Path, fingerprint: str) -> None:
        """`folder` is what `export_first_pass` wrote for the summary model of this fingerprint.

        Raises ModelFilesMissing, ModelFilesInvalid or EngineRefused.
        """
        self._model = model
        self._decoder = OnnxFirstPassDecoder(
            folder, fingerprint, torch.get_num_threads()
        )
        if self._decoder.manifest.embedding_layers != model.embedding_layers:
            raise ModelFilesInvalid(
                f"{folder} does not give the states that the retrieval head reads"
            )

    def first_pass(self, inputs: dict[str, Tensor]) -> FirstPass:
        """See `FirstPassEngine`. Raises EngineFailed."""
        prompt = self._model.decoder_prompt(inputs)
        last, layers = self._decoder.states(
            _left_aligned(prompt), np.array(prompt.lengths)
        )
        # The last K + 1 tokens of each row.
        behind = np.arange(-self._model.config.token_count - 1, 0)
        places = np.array(prompt.lengths)[:, None] + behind
        rows = np.arange(len(places))[:, None]
        return self._model.read_summary(
            DecoderStates(
                torch.from_numpy(last[rows, places]),
                torch.from_numpy(layers[rows, places]),
            )
        )

    def text_states(self, texts: Sequence[str]) -> TextStates:
        """See `FirstPassEngine`. Raises EngineFailed."""
        words = self._model.text_words(texts)
        embeddings = self._model.embedding(words.ids)
        _, layers = self._decoder.states(
            embeddings.float().numpy(), words.mask.sum(1).numpy()
        )
        return mean_text_states(words, embeddings, torch.from_numpy(layers))


def _left_aligned(prompt: Prompt) -> NDArray[np.float32]:
    """(B, T, D) embeddings of the prompts with their padding moved behind them, and zero."""
    embeddings: NDArray[np.float32] = prompt.inputs_embeds.float().numpy()
    width = embeddings.shape[1]
    if min(prompt.lengths) == width:
        return embeddings
    aligned = np.zeros_like(embeddings)
    for row, length in enumerate(prompt.lengths):
        aligned[row, :length] = embeddings[row, width - length :]
    return aligned
