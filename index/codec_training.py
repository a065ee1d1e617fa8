"""Training of the codecs that need it: from a sample of tokens to the state that ships with a model.

Knows nothing of models or records. Shapes: N sample tokens, D hidden size.
"""

from __future__ import annotations

import re
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from index.codecs import StatefulCodec, TokenCodec, TrainedCodec, checked_tokens
from index.errors import BadTokens, UnknownEngine
from index.files import write_whole
from index.mixture_codec import words_a_token
from index.mixture_training import Vocabulary, train_mixture

# FAISS factory strings by family; {n} is the number of bytes a token. "np": without the long optimisation of the order
# of centroids that only searching in Hamming space needs.
FAMILIES: dict[str, str] = {
    "pq": "PQ{n}x8np",  # product quantiser: {n} parts of D, 256 centroids each
    "opq": "OPQ{n},PQ{n}x8np",  # after a rotation trained to make the parts independent; state grows by D² floats
    "rq": "RQ{n}x8",  # residual quantiser: {n} codebooks of whole tokens; state of {n}·256·D floats, slow to write
}
MIN_SAMPLE = 39 * 256  # what FAISS asks for to place 256 centroids


def factory_string(kind: str, token_dim: int) -> str:
    """The FAISS factory string of a trained codec such as "pq72" (72 bytes a token). Raises UnknownEngine."""
    match = re.fullmatch(r"([a-z]+)([1-9]\d*)", kind)
    if match is None or match[1] not in FAMILIES:
        raise UnknownEngine(f"no trained codec is called {kind!r}; there are {', '.join(FAMILIES)}, each with a number")
    family, size = match[1], int(match[2])
    if family != "rq" and token_dim % size:
        raise UnknownEngine(f"codec {kind} does not divide tokens of {token_dim} values evenly")
    return FAMILIES[family].format(n=size)


def train_codec(kind: str, tokens: NDArray[np.float32]) -> TrainedCodec:
    """A codec trained on tokens (N, D), N at least 9,984. The same tokens give the same state on one thread.

    Raises BadTokens, UnknownEngine.
    """
    if tokens.ndim != 2 or len(tokens) < MIN_SAMPLE or not np.isfinite(tokens).all():
        raise BadTokens(f"training needs at least {MIN_SAMPLE} finite tokens (N, D), not {tokens.shape}")
    index = faiss.index_factory(tokens.shape[1], factory_string(kind, tokens.shape[1]))
    index.train(np.ascontiguousarray(tokens, dtype=np.float32))
    return TrainedCodec(kind, faiss.serialize_index(index).tobytes())


def train_on_images(
    kind: str, tokens: NDArray[np.float32], vocabulary: Vocabulary | None = None
) -> tuple[StatefulCodec, float]:
    """A codec trained on the first nine tenths of (B, K, D), and what it loses of the images behind them.

    See `share_lost`. Images are not split, since tokens of one image resemble each other. A mixture ("mix16") needs
    the vocabulary of the model. Raises BadTokens, UnknownEngine.
    """
    tokens = checked_tokens(tokens)
    images, _, dim = tokens.shape
    seen = images - max(1, images // 10)
    words = words_a_token(kind)
    codec: StatefulCodec
    if words is None:
        codec = train_codec(kind, tokens[:seen].reshape(-1, dim))
    elif vocabulary is None:
        raise BadTokens(f"codec {kind} is trained on the vocabulary of its model too")
    else:
        codec = train_mixture(words, tokens[:seen], vocabulary)
    return codec, share_lost(codec, tokens[seen:])


def share_lost(codec: TokenCodec, tokens: NDArray[np.float32]) -> float:
    """Squared error of reading back (B, K, D), by the tokens' variance: 0 is lossless, 1 as bad as their mean."""
    _, count, dim = tokens.shape
    read = np.stack([codec.decode(data, count, dim) for data in codec.encode(tokens)])
    variance = np.square(tokens - tokens.mean(axis=(0, 1))).mean()
    return float(np.square(read - tokens).mean() / variance) if variance else 0.0


def write_state(codec: StatefulCodec, path: Path) -> None:
    """Writes the state for shipping: `codec_state` of `open_library`. Raises OSError."""
    write_whole(path, lambda take: take(codec.state))
