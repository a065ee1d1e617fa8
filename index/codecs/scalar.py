"""Token codecs over FAISS and plain floats: the summary tokens of one image to bytes and back.

TokenCodec is their port. Shapes: B images, K summary tokens, D hidden size.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import faiss
import numpy as np

from index.errors import CodecStateDamaged, InvalidTokens
from index.ports import Floats

_QUANTISER_TYPES = {
    8: faiss.ScalarQuantizer.QT_8bit_uniform,
    4: faiss.ScalarQuantizer.QT_4bit_uniform,
}
_MAX_HALF = np.finfo(np.float16).max
_MAX_FLOAT = np.finfo(np.float32).max
_RANGE_BYTES = 8  # smallest value and span of a token, two float32


@dataclass(frozen=True)
class WeightedWord:
    """One word of a token, which is about the sum of weight · embedding over its words."""

    text: str
    weight: float


class TokenCodec(Protocol):
    """Encodes tokens as bytes. Thread-safe."""

    @property
    def name(self) -> str:
        """Recorded with every image; includes the hash of trained state ("pq64@1f2e3d4c")."""
        ...

    def encode(self, tokens: Floats) -> list[bytes]:
        """The bytes of each image of (B, K, D). Raises InvalidTokens for unencodable values."""
        ...

    def decode(self, data: bytes, token_count: int, token_dim: int) -> Floats:
        """The tokens (K, D) in `data`. Raises InvalidTokens for a wrong length."""
        ...

    def words(self, data: bytes, token_count: int) -> list[list[WeightedWord]] | None:
        """The words of each of K tokens, heaviest first; None from a codec that keeps no words.

        Raises InvalidTokens.
        """
        ...


class StatefulCodec(TokenCodec, Protocol):
    """A codec with trained state."""

    @property
    def state(self) -> bytes:
        """The result of training, as its file holds it; the codec's name contains its hash."""
        ...


def checked_tokens(tokens: Floats) -> Floats:
    """The tokens, contiguous. Raises InvalidTokens unless they are finite and (B, K, D)."""
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
    """Little-endian float16, 2·D bytes a token; exact for tokens of a half-precision model."""

    name = "fp16"

    def encode(self, tokens: Floats) -> list[bytes]:
        """See TokenCodec. Refuses values beyond ±65504."""
        tokens = checked_tokens(tokens)
        # The cast would make them infinite in silence.
        if np.abs(tokens).max(initial=0) > _MAX_HALF:
            raise InvalidTokens("a token value is beyond the range of fp16 (65504)")
        return [image.tobytes() for image in tokens.astype("<f2")]

    def decode(self, data: bytes, token_count: int, token_dim: int) -> Floats:
        """See TokenCodec."""
        _check_length(data, 2 * token_count * token_dim, self.name)
        halves = np.frombuffer(data, dtype="<f2")
        tokens = halves.reshape(token_count, token_dim)
        return tokens.astype(np.float32)

    def words(self, data: bytes, token_count: int) -> None:
        """See TokenCodec."""


class ScalarCodec:
    """FAISS's uniform scalar quantiser over each token's own range, without training.

    A token is its smallest value and its span (two little-endian float32), then D codes of `bits`
    bits. Code c stands for smallest + span · c / (2^bits - 2). The error is at most half a step,
    besides float32 rounding; the smallest and the largest value are exact; encoding again what was
    decoded gives the same codes.
    """

    def __init__(self, bits: int) -> None:
        self.name = f"sq{bits}"
        self._bits = bits
        self._quantisers: dict[int, faiss.IndexScalarQuantizer] = {}  # by D
        self._lock = threading.Lock()

    def _quantiser(self, token_dim: int) -> faiss.IndexScalarQuantizer:
        with self._lock:
            if token_dim not in self._quantisers:
                self._quantisers[token_dim] = self._new_quantiser(token_dim)
            return self._quantisers[token_dim]

    def _new_quantiser(self, token_dim: int) -> faiss.IndexScalarQuantizer:
        quantiser = faiss.IndexScalarQuantizer(token_dim, _QUANTISER_TYPES[self._bits])
        # Set in place of training, since tokens come scaled to [0, 1]. FAISS decodes a code to the
        # middle of its interval; a range that is half an interval wider at both ends puts those
        # middles on 0, 1 and even steps between.
        steps = 2**self._bits - 2
        lowest = -0.5 / steps
        span = 1 + 1 / steps
        lowest_and_span = np.array([lowest, span], dtype=np.float32)
        faiss.copy_array_to_vector(lowest_and_span, quantiser.sq.trained)
        quantiser.is_trained = True
        return quantiser

    def encode(self, tokens: Floats) -> list[bytes]:
        """See TokenCodec."""
        tokens = checked_tokens(tokens)
        images, count, dim = tokens.shape
        if images == 0:
            return []
        rows = tokens.reshape(images * count, dim)
        smallest = rows.min(axis=1, keepdims=True)
        # In float64: the span of two float32 may be beyond float32.
        largest = rows.max(axis=1, keepdims=True)
        span = largest.astype(np.float64) - smallest
        if span.max() > _MAX_FLOAT:
            raise InvalidTokens("the range of a token is beyond float32")
        span = span.astype(np.float32)
        # A token of equal values has span 0; any divisor gives the codes 0 that it needs.
        divisor = np.where(span == 0, np.float32(1), span)
        scaled = (rows - smallest) / divisor
        quantiser = self._quantiser(dim)
        scaled = np.ascontiguousarray(scaled, dtype=np.float32)
        codes = quantiser.sa_encode(scaled)
        ranges = np.concatenate([smallest, span], axis=1)
        range_bytes = ranges.astype("<f4").view(np.uint8)
        encoded = np.concatenate([range_bytes, codes], axis=1)
        encoded = encoded.reshape(images, -1)
        return [image.tobytes() for image in encoded]

    def decode(self, data: bytes, token_count: int, token_dim: int) -> Floats:
        """See TokenCodec."""
        quantiser = self._quantiser(token_dim)
        token_bytes = _RANGE_BYTES + quantiser.sa_code_size()
        _check_length(data, token_count * token_bytes, self.name)
        encoded = np.frombuffer(data, dtype=np.uint8)
        encoded = encoded.reshape(token_count, token_bytes)
        range_bytes = np.ascontiguousarray(encoded[:, :_RANGE_BYTES])
        ranges = range_bytes.view("<f4")
        smallest = ranges[:, :1]
        span = ranges[:, 1:]
        codes = np.ascontiguousarray(encoded[:, _RANGE_BYTES:])
        scaled = quantiser.sa_decode(codes)
        tokens: Floats = smallest + scaled * span
        return tokens.astype(np.float32)

    def words(self, data: bytes, token_count: int) -> None:
        """See TokenCodec."""


class TrainedCodec:
    """Any trained FAISS codec: product and residual quantisers, with or without rotation."""

    def __init__(self, kind: str, state: bytes) -> None:
        """`kind` is the codec's short name, `state` a FAISS index file.

        Raises CodecStateDamaged.
        """
        self.name = f"{kind}@{state_hash(state)}"
        self.state = state
        try:
            file = np.frombuffer(state, dtype=np.uint8)
            self._index = faiss.deserialize_index(file)
            self._code_bytes = int(self._index.sa_code_size())
        except (RuntimeError, MemoryError) as error:
            # MemoryError too: FAISS believes a damaged length and allocates it.
            raise CodecStateDamaged(
                f"the state of codec {self.name} cannot be read"
            ) from error
        if not self._index.is_trained:
            raise CodecStateDamaged(f"the state of codec {self.name} was never trained")

    def encode(self, tokens: Floats) -> list[bytes]:
        """See TokenCodec."""
        tokens = checked_tokens(tokens)
        images, count, dim = tokens.shape
        self._check_dim(dim)
        if images == 0:
            return []
        rows = tokens.reshape(images * count, dim)
        codes = self._index.sa_encode(rows)
        codes = codes.reshape(images, -1)
        return [image.tobytes() for image in codes]

    def decode(self, data: bytes, token_count: int, token_dim: int) -> Floats:
        """See TokenCodec."""
        self._check_dim(token_dim)
        _check_length(data, token_count * self._code_bytes, self.name)
        codes = np.frombuffer(data, dtype=np.uint8)
        codes = codes.reshape(token_count, self._code_bytes)
        # A copy: FAISS's bindings take no read-only arrays.
        tokens: Floats = self._index.sa_decode(codes.copy())
        return tokens

    def words(self, data: bytes, token_count: int) -> None:
        """See TokenCodec."""

    def _check_dim(self, token_dim: int) -> None:
        if token_dim != self._index.d:
            raise CodecStateDamaged(
                f"codec {self.name} was trained for {self._index.d} values a token, not {token_dim}"
            )


def state_hash(state: bytes) -> str:
    """The identity of trained state in a codec's name: 8 hex digits of its SHA-256."""
    return hashlib.sha256(state).hexdigest()[:8]


SELF_CONTAINED: dict[str, Callable[[], TokenCodec]] = {
    "fp16": HalfCodec,
    "sq8": lambda: ScalarCodec(8),
    "sq4": lambda: ScalarCodec(4),
}


def encode_each(codec: TokenCodec, images: Sequence[Floats]) -> list[bytes]:
    """The bytes of each image's tokens (k, D), in order; k may differ. Raises InvalidTokens."""
    places_by_count: dict[int, list[int]] = {}
    for place, tokens in enumerate(images):
        places_by_count.setdefault(len(tokens), []).append(place)
    encoded = [b""] * len(images)
    # Images of one k form one call, since codecs work on whole arrays.
    for places in places_by_count.values():
        batch = np.stack([images[place] for place in places])
        for place, data in zip(places, codec.encode(batch), strict=True):
            encoded[place] = data
    return encoded
