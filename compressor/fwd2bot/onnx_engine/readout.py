"""The readout and the retrieval head in NumPy: what `Readout` and `RetrievalHead` compute.

Shapes: B batch, K summary tokens, T text tokens, D hidden size, C channels, W words, E embedding
size.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from compressor.fwd2bot.config import Pooling
from compressor.fwd2bot.onnx_engine.words import Words

Array = NDArray[np.float32]

_SMALLEST_LENGTH = 1e-12  # of a vector that is divided by it, as PyTorch has it
_SMALLEST_WEIGHT = 1e-4  # of all tokens of a text together, as in `WordMap`


def soft_words(states: Array, words: Words, temperature: float) -> Array:
    """(B, K, D) last states → (B, K, D) mixtures of the words that are written next.

    A softmax whose sums are taken part by part: the largest logit so far is what all are taken
    relative to, and when there is a larger one, the sums so far shrink.
    """
    rows = states.reshape(-1, states.shape[-1]) / np.float32(temperature)
    largest = np.full((len(rows), 1), -np.inf, np.float32)
    total = np.zeros_like(largest)
    mixture = np.zeros_like(rows)
    for part in words.parts():
        weights = rows @ part.T
        before = largest
        largest = np.maximum(before, weights.max(-1, keepdims=True))
        weights -= largest
        np.exp(weights, out=weights)
        shrunk = np.exp(before - largest)
        total *= shrunk
        total += weights.sum(-1, keepdims=True)
        mixture *= shrunk
        mixture += weights @ part
    mixture /= total
    return mixture.reshape(states.shape)


class OnnxRetrievalHead:
    """From hidden states and words to embeddings of length 1."""

    def __init__(self, state: Mapping[str, Array], pooling: Pooling) -> None:
        """`state` is a RetrievalHead's."""
        self._state = state
        self._pooling = pooling
        self._has_words = "words.map.weight" in state

    def embed_image(self, states: Array, tokens: Array) -> Array:
        """(B, K, C) states and (B, K, D) summary tokens → (B, E)."""
        state = self._state
        standard = (states - state["image_mean"]) / state["image_std"]
        projected = self._projected("image", self._pooled(standard))
        return self._with_words(
            projected, tokens, np.ones(tokens.shape[:2], np.float32)
        )

    def embed_text(self, states: Array, words: Array, counted: Array) -> Array:
        """(B, C) mean states and (B, T, D) words, of which (B, T) count → (B, E)."""
        state = self._state
        standard = (states - state["text_mean"]) / state["text_std"]
        return self._with_words(self._projected("text", standard), words, counted)

    def _projected(self, kind: str, standard: Array) -> Array:
        weight, bias = self._state[f"{kind}.weight"], self._state[f"{kind}.bias"]
        projected: Array = standard @ weight.T + bias
        return projected

    def _pooled(self, states: Array) -> Array:
        if self._pooling == Pooling.LAST:
            return states[:, -1]
        if self._pooling == Pooling.MEAN:
            mean: Array = states.mean(1)
            return mean
        shares = _softmax(self._state["position_weights"])
        pooled: Array = (shares @ states)[:, 0]
        return pooled

    def _with_words(self, projected: Array, words: Array, counted: Array) -> Array:
        embedding = _unit(projected)
        if not self._has_words:
            return embedding
        return _unit(embedding + self._mapped(words, counted))

    def _mapped(self, words: Array, counted: Array) -> Array:
        """`WordMap`."""
        state = self._state
        standard = (words - state["words.mean"]) / state["words.std"]
        relevance = standard @ state["words.relevance.weight"][0]
        weights = counted / (1 + np.exp(-relevance - state["words.relevance.bias"]))
        pooled = (weights[:, None] @ standard)[:, 0]
        # A text may have no token at all.
        total = np.maximum(weights.sum(1, keepdims=True), _SMALLEST_WEIGHT)
        mapped = (pooled / total) @ state["words.map.weight"].T
        gain: Array = np.exp(state["words.log_gain"])
        return gain * _unit(mapped)


def _softmax(logits: Array) -> Array:
    """Over the last axis."""
    logits = logits - logits.max(-1, keepdims=True)
    np.exp(logits, out=logits)
    logits /= logits.sum(-1, keepdims=True)
    return logits


def _unit(vectors: Array) -> Array:
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    result: Array = vectors / np.maximum(lengths, _SMALLEST_LENGTH)
    return result
