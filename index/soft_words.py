"""Token codec for soft words: a token as a few words of the model's vocabulary and their weights.

Knows nothing of the model beyond the matrix of its word embeddings. Shapes: V words, D hidden size, N tokens.

A soft word is a mixture of word embeddings, so a few of the heaviest words say most of it, and they can be read.
They are found by orthogonal matching pursuit (Pati, Rezaiifar, Krishnaprasad 1993) among those that correlate most.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from index.codecs import checked_tokens, state_hash
from index.errors import BadTokens, CodecStateDamaged

_CANDIDATES = 48  # words a pursuit chooses from, taken twice: for the token, then for what is left of it
_MAX_WORDS = 255


@dataclass(frozen=True)
class WeightedWord:
    """One word of a token; the token is about the sum of weight · embedding."""

    number: int  # row of the vocabulary
    weight: float


class SoftWordCodec:
    """`words` entries a token: a number of 2 or 3 bytes (by the size of the vocabulary) and a weight of one byte each.

    A token is its largest weight (float16), then `words` numbers (little-endian, heaviest first), then as many weights
    as int8, in 127ths of the largest. Unused entries have weight 0.
    """

    def __init__(self, words: int, vocabulary: NDArray[np.float32]) -> None:
        """`vocabulary` (V, D) is kept, not copied, if it is float32. Raises CodecStateDamaged."""
        if (
            vocabulary.ndim != 2
            or not 1 <= len(vocabulary) <= 2**24
            or not 1 <= words <= min(_MAX_WORDS, len(vocabulary))
        ):
            raise CodecStateDamaged(f"{words} words of a vocabulary {vocabulary.shape} make no codec")
        self._vocabulary = np.ascontiguousarray(vocabulary, dtype=np.float32)
        lengths = np.linalg.norm(self._vocabulary, axis=1)
        if not np.isfinite(lengths).all():
            raise CodecStateDamaged("the vocabulary holds NaN or infinity")
        self._inverse_lengths = np.where(lengths > 0, 1 / np.maximum(lengths, 1e-30), 0).astype(np.float32)
        self._words = words
        self._number_bytes = 2 if len(vocabulary) <= 2**16 else 3
        self._token_bytes = 2 + words * (self._number_bytes + 1)
        self.name = f"words{words}@{state_hash(self._vocabulary.tobytes())}"

    def encode(self, tokens: NDArray[np.float32]) -> list[bytes]:
        """See TokenCodec."""
        tokens = checked_tokens(tokens)
        images, count, dim = tokens.shape
        self._check_dim(dim)
        flat = tokens.reshape(images * count, dim)
        candidates = self._candidates(flat)
        codes = [self._encode_token(token, words) for token, words in zip(flat, candidates, strict=True)]
        return [b"".join(codes[start : start + count]) for start in range(0, len(codes), count)]

    def decode(self, data: bytes, token_count: int, token_dim: int) -> NDArray[np.float32]:
        """See TokenCodec."""
        self._check_dim(token_dim)
        numbers, weights = self._read(data, token_count)
        tokens: NDArray[np.float32] = np.einsum("kw,kwd->kd", weights, self._vocabulary[numbers])
        return tokens

    def words(self, data: bytes, token_count: int) -> list[list[WeightedWord]]:
        """The words of each token, heaviest first. Raises BadTokens."""
        numbers, weights = self._read(data, token_count)
        return [
            [WeightedWord(int(n), float(w)) for n, w in zip(*pair, strict=True) if w]
            for pair in zip(numbers, weights, strict=True)
        ]

    def _check_dim(self, token_dim: int) -> None:
        if token_dim != self._vocabulary.shape[1]:
            raise CodecStateDamaged(
                f"codec {self.name} has words of {self._vocabulary.shape[1]} values, not {token_dim}"
            )

    def _candidates(self, flat: NDArray[np.float32]) -> list[NDArray[np.int64]]:
        """For each of N tokens, the words to choose from: by direction, whatever their length."""
        take = min(_CANDIDATES, len(self._vocabulary))
        first = self._nearest(flat, take)
        left = (
            np.stack([self._left_over(token, words) for token, words in zip(flat, first, strict=True)])
            if len(flat)
            else flat
        )
        second = self._nearest(left, take)
        return [np.unique(np.concatenate(pair)) for pair in zip(first, second, strict=True)]

    def _nearest(self, flat: NDArray[np.float32], take: int) -> NDArray[np.int64]:
        closeness = np.abs(flat @ self._vocabulary.T) * self._inverse_lengths
        nearest: NDArray[np.int64] = np.argpartition(-closeness, take - 1, axis=1)[:, :take]
        return nearest

    def _left_over(self, token: NDArray[np.float32], candidates: NDArray[np.int64]) -> NDArray[np.float32]:
        chosen, weights = self._pursue(token, candidates)
        rest: NDArray[np.float32] = token - weights.astype(np.float32) @ self._vocabulary[chosen]
        return rest

    def _pursue(
        self, token: NDArray[np.float32], candidates: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """At most `words` words and their least-squares weights for one token (D,)."""
        words = self._vocabulary[candidates].astype(np.float64)
        products, target = words @ words.T, words @ token.astype(np.float64)
        scale = self._inverse_lengths[candidates].astype(np.float64)
        chosen: list[int] = []
        weights: NDArray[np.float64] = np.zeros(0)
        for _ in range(min(self._words, len(candidates))):
            closeness = np.abs(target - products[:, chosen] @ weights) * scale
            closeness[chosen] = 0
            best = int(closeness.argmax())
            if closeness[best] <= 1e-9:
                break
            chosen.append(best)
            some = products[np.ix_(chosen, chosen)]
            # A little of the diagonal keeps near-synonyms from getting huge weights of opposite signs.
            weights = np.asarray(
                np.linalg.solve(some + 1e-4 * np.diag(np.diag(some)), target[chosen]), dtype=np.float64
            )
        return candidates[chosen], weights

    def _encode_token(self, token: NDArray[np.float32], candidates: NDArray[np.int64]) -> bytes:
        chosen, weights = self._pursue(token, candidates)
        order = np.argsort(-np.abs(weights), kind="stable")
        numbers, shares = np.zeros(self._words, dtype=np.int64), np.zeros(self._words)
        numbers[: len(order)], shares[: len(order)] = chosen[order], weights[order]
        largest = np.abs(shares).max()
        if largest > np.finfo(np.float16).max:
            raise BadTokens("a token is too long to be written in words")
        largest = float(np.float16(largest))
        steps = np.clip(np.rint(shares / largest * 127), -127, 127) if largest else np.zeros(self._words)
        packed = numbers.astype("<u4").view(np.uint8).reshape(-1, 4)[:, : self._number_bytes]
        head = np.array([largest], dtype="<f2").tobytes()
        return head + packed.tobytes() + steps.astype(np.int8).tobytes()

    def _read(self, data: bytes, token_count: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Numbers (K, words) and weights (K, words)."""
        if len(data) != token_count * self._token_bytes:
            raise BadTokens(
                f"{self.name} tokens of {len(data)} bytes where {token_count * self._token_bytes} were expected"
            )
        table = np.frombuffer(data, dtype=np.uint8).reshape(token_count, self._token_bytes)
        largest = np.ascontiguousarray(table[:, :2]).view("<f2").astype(np.float32)
        split = 2 + self._words * self._number_bytes
        packed = table[:, 2:split].reshape(token_count, self._words, self._number_bytes).astype(np.int64)
        numbers = (packed << (8 * np.arange(self._number_bytes))).sum(axis=2)
        if numbers.size and numbers.max() >= len(self._vocabulary):
            raise BadTokens(f"{self.name} tokens name a word that is not in the vocabulary")
        weights = np.ascontiguousarray(table[:, split:]).view(np.int8).astype(np.float32) * largest / np.float32(127)
        return numbers, weights


def words_a_token(kind: str) -> int | None:
    """How many words the codec called `kind` keeps ("words8" or "words8@HASH": 8); None for other codecs."""
    match = re.fullmatch(r"words([1-9]\d{0,2})(@[0-9a-f]{8})?", kind)
    return int(match[1]) if match else None
