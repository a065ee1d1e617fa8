"""Token codecs: the K summary tokens of one image to bytes and back.

Knows nothing of records, stores or models. Shapes: B batch, K summary tokens, D hidden size.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import faiss
import numpy as np
from numpy.typing import NDArray

from index.errors import CodecStateDamaged, InvalidTokens


@dataclass(frozen=True)
class WeightedWord:
    """One word of a token; the token is about the sum of weight · embedding."""

    text: str
    weight: float


class TokenCodec(Protocol):
    """Writes tokens as bytes. Safe to call from several threads."""

    @property
    def name(self) -> str:
        """As recorded with every image; the hash of trained state is part of it ("pq64@1f2e3d4c")."""
        ...

    def encode(self, tokens: NDArray[np.float32]) -> list[bytes]:
        """Bytes of each image of (B, K, D). Raises InvalidTokens when a value cannot be held."""
        ...

    def decode(self, data: bytes, token_count: int, token_dim: int) -> NDArray[np.float32]:
        """The (K, D) tokens in `data`. Raises InvalidTokens when the length is not that of K tokens."""
        ...

    def words(self, data: bytes, token_count: int) -> list[list[WeightedWord]] | None:
        """The words each of K tokens is kept in, heaviest first; None where a codec keeps none.
        Raises InvalidTokens.
        """
        ...


class StatefulCodec(TokenCodec, Protocol):
    """A codec that was trained."""

    @property
    def state(self) -> bytes:
        """All that training gave, as a file holds it; the codec's name tells its hash."""
        ...


def checked_tokens(tokens: NDArray[np.float32]) -> NDArray[np.float32]:
    """The tokens (B, K, D), contiguous. Raises InvalidTokens unless they have that shape and are
    finite.
    """
    if tokens.ndim != 3 or 0 in tokens.shape[1:]:
        raise InvalidTokens(f"tokens must have shape (B, K, D), not {tokens.shape}")
    tokens = np.ascontiguousarray(tokens, dtype=np.float32)
    if not np.isfinite(tokens).all():
        raise InvalidTokens("tokens hold NaN or infinity")
    return tokens


def _check_length(data: bytes, expected_bytes: int, codec: str) -> None:
    if len(data) != expected_bytes:
        raise InvalidTokens(
            f"{codec} tokens of {len(data)} bytes where {expected_bytes} were expected"
        )


class HalfCodec:
    """Sixteen-bit floats, little-endian: 2·D bytes a token, exact for tokens of a half-precision model."""

    name = "fp16"

    def encode(self, tokens: NDArray[np.float32]) -> list[bytes]:
        """See TokenCodec. Values beyond ±65504 are refused, not made infinite."""
        tokens = checked_tokens(tokens)
        if tokens.size and np.abs(tokens).max() > np.finfo(np.float16).max:
            raise InvalidTokens("a token value is beyond the range of fp16 (65504)")
        return [image.tobytes() for image in tokens.astype("<f2")]

    def decode(self, data: bytes, token_count: int, token_dim: int) -> NDArray[np.float32]:
        """See TokenCodec."""
        _check_length(data, 2 * token_count * token_dim, self.name)
        return np.frombuffer(data, dtype="<f2").reshape(token_count, token_dim).astype(np.float32)

    def words(self, data: bytes, token_count: int) -> None:
        """See TokenCodec."""


class ScalarCodec:
    """FAISS's uniform scalar quantiser over each token's own range: needs no training.

    A token is its smallest value and its range (two little-endian float32), then D codes of `bits`
    bits. Code c stands for smallest + range · c / (2^bits - 2): the error is at most half a step
    (and float32 rounding), the smallest and the largest value are exact, and writing again what was
    read gives the same codes.
    """

    def __init__(self, bits: int) -> None:
        self.name = f"sq{bits}"
        self._bits = bits
        self._type = {
            8: faiss.ScalarQuantizer.QT_8bit_uniform,
            4: faiss.ScalarQuantizer.QT_4bit_uniform,
        }[bits]
        self._quantisers: dict[int, faiss.IndexScalarQuantizer] = {}
        self._lock = threading.Lock()

    def _quantiser(self, token_dim: int) -> faiss.IndexScalarQuantizer:
        with self._lock:
            if token_dim not in self._quantisers:
                quantiser = faiss.IndexScalarQuantizer(token_dim, self._type)
                # Set instead of trained: tokens come scaled to [0, 1]. FAISS gives back the middle
                # of a code's interval, so the range starts half an interval lower and ends half an
                # interval higher.
                steps = 2**self._bits - 2
                trained = np.array([-0.5 / steps, 1 + 1 / steps], dtype=np.float32)
                faiss.copy_array_to_vector(trained, quantiser.sq.trained)
                quantiser.is_trained = True
                self._quantisers[token_dim] = quantiser
            return self._quantisers[token_dim]

    def encode(self, tokens: NDArray[np.float32]) -> list[bytes]:
        """See TokenCodec."""
        tokens = checked_tokens(tokens)
        images, count, dim = tokens.shape
        if images == 0:
            return []
        flat = tokens.reshape(images * count, dim)
        low = flat.min(axis=1, keepdims=True)
        span = flat.max(axis=1, keepdims=True).astype(np.float64) - low
        if span.max() > np.finfo(np.float32).max:
            raise InvalidTokens("the range of a token is beyond float32")
        span = span.astype(np.float32)
        scaled = (flat - low) / np.where(span == 0, np.float32(1), span)
        codes = self._quantiser(dim).sa_encode(np.ascontiguousarray(scaled, dtype=np.float32))
        head = np.concatenate([low, span], axis=1).astype("<f4").view(np.uint8)
        return [
            image.tobytes() for image in np.concatenate([head, codes], axis=1).reshape(images, -1)
        ]

    def decode(self, data: bytes, token_count: int, token_dim: int) -> NDArray[np.float32]:
        """See TokenCodec."""
        quantiser = self._quantiser(token_dim)
        _check_length(data, token_count * (8 + quantiser.sa_code_size()), self.name)
        tokens = np.frombuffer(data, dtype=np.uint8).reshape(token_count, -1)
        head = np.ascontiguousarray(tokens[:, :8]).view("<f4")
        scaled = quantiser.sa_decode(np.ascontiguousarray(tokens[:, 8:]))
        decoded: NDArray[np.float32] = head[:, :1] + scaled * head[:, 1:]
        return decoded.astype(np.float32)

    def words(self, data: bytes, token_count: int) -> None:
        """See TokenCodec."""


class TrainedCodec:
    """Any FAISS codec with trained state: product and residual quantisers, with rotation or without."""

    def __init__(self, kind: str, state: bytes) -> None:
        """`kind` is the codec's short name, `state` the bytes of a FAISS index file. Raises
        CodecStateDamaged.
        """
        self.name = f"{kind}@{state_hash(state)}"
        self.state = state
        try:
            self._index = faiss.deserialize_index(np.frombuffer(state, dtype=np.uint8))
            self._code_bytes = int(self._index.sa_code_size())
        except (RuntimeError, MemoryError) as error:
            raise CodecStateDamaged(
                f"the trained state of codec {self.name} cannot be read"
            ) from error
        if not self._index.is_trained:
            raise CodecStateDamaged(f"the state of codec {self.name} was never trained")

    def encode(self, tokens: NDArray[np.float32]) -> list[bytes]:
        """See TokenCodec."""
        tokens = checked_tokens(tokens)
        images, count, dim = tokens.shape
        self._check_dim(dim)
        if images == 0:
            return []
        codes = self._index.sa_encode(tokens.reshape(images * count, dim))
        return [image.tobytes() for image in codes.reshape(images, -1)]

    def decode(self, data: bytes, token_count: int, token_dim: int) -> NDArray[np.float32]:
        """See TokenCodec."""
        self._check_dim(token_dim)
        _check_length(data, token_count * self._code_bytes, self.name)
        codes = np.frombuffer(data, dtype=np.uint8).reshape(token_count, self._code_bytes)
        decoded: NDArray[np.float32] = self._index.sa_decode(codes.copy())
        return decoded

    def words(self, data: bytes, token_count: int) -> None:
        """See TokenCodec."""

    def _check_dim(self, token_dim: int) -> None:
        if token_dim != self._index.d:
            raise CodecStateDamaged(
                f"codec {self.name} was trained for {self._index.d} values a token, not {token_dim}"
            )


def state_hash(state: bytes) -> str:
    """The first 8 hex digits of the SHA-256 of trained state: its identity in a codec's recorded name."""
    return hashlib.sha256(state).hexdigest()[:8]


SELF_CONTAINED: dict[str, Callable[[], TokenCodec]] = {
    "fp16": HalfCodec,
    "sq8": lambda: ScalarCodec(8),
    "sq4": lambda: ScalarCodec(4),
}


# Encodes images of different numbers of tokens together: those of one number in one call of the
# codec. Shapes: B images, k an image's tokens, D hidden size.


def encode_each(codec: TokenCodec, images: Sequence[NDArray[np.float32]]) -> list[bytes]:
    """Bytes of each image's (k, D) tokens, in order; k may differ. Raises InvalidTokens."""
    encoded = [b""] * len(images)
    for count in dict.fromkeys(len(tokens) for tokens in images):
        places = [place for place, tokens in enumerate(images) if len(tokens) == count]
        data = codec.encode(np.stack([images[place] for place in places]))
        for place, each in zip(places, data, strict=True):
            encoded[place] = each
    return encoded
