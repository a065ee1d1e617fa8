"""Token codec for soft words: a token as a few entries of a dictionary and their weights.

Knows nothing of models. A soft word is a mixture of word embeddings, so a few words say most of it,
and can be read. Shapes: B images, K summary tokens, D hidden size, A atoms of the dictionary, N
tokens, n entries of a token.

Entries are found by orthogonal matching pursuit (Pati, Rezaiifar, Krishnaprasad 1993), some at a
time: all tokens of an image get a first few, then the token that lacks most gets the next, until
the image's entries are used up.
"""

from __future__ import annotations

import io
import re
import struct
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from index.codecs.scalar import WeightedWord, checked_tokens, state_hash
from index.errors import CodecStateDamaged, InvalidTokens

MAX_ATOMS = 2**16
_MAX_ENTRIES = 255  # of one token
_ENTRIES_A_ROUND = 6
_CANDIDATES = 48  # atoms that a round chooses from: those closest to what the token still lacks
# share of an atom's energy outside the chosen ones, below which it would only fight with them
_SAID_ALREADY = 0.05
_IMAGES_AT_A_TIME = 32  # bounds memory
_LARGEST_WEIGHT = 65504.0  # that float16 holds
_HEAD = struct.Struct("<Be")  # entries of the token, its largest weight


@dataclass(frozen=True)
class Dictionary:
    """What tokens are written in: word embeddings with their texts, then directions that no word
    stands for.
    """

    vectors: NDArray[np.float16]  # (A, D)
    texts: tuple[str, ...]  # of the first atoms

    def to_bytes(self) -> bytes:
        """A NumPy archive; the same dictionary gives the same bytes."""
        file = io.BytesIO()
        texts = np.frombuffer("\0".join(self.texts).encode(), dtype=np.uint8)
        np.savez(file, version=np.uint32(1), vectors=self.vectors.astype("<f2"), texts=texts)
        return file.getvalue()

    @classmethod
    def from_bytes(cls, state: bytes) -> Dictionary:
        """Raises CodecStateDamaged."""
        try:
            with np.load(io.BytesIO(state), allow_pickle=False) as archive:
                version, vectors, texts = (
                    int(archive["version"]),
                    archive["vectors"],
                    archive["texts"].tobytes(),
                )
            words = tuple(texts.decode().split("\0")) if texts else ()
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise CodecStateDamaged("the dictionary of a codec cannot be read") from error
        if version != 1:
            raise CodecStateDamaged(f"a dictionary of version {version}, not 1")
        shaped = (
            vectors.ndim == 2 and vectors.dtype == np.float16 and 1 <= len(vectors) <= MAX_ATOMS
        )
        if not shaped or len(words) > len(vectors) or not np.isfinite(vectors).all():
            raise CodecStateDamaged("the dictionary of a codec is not what a dictionary should be")
        return cls(vectors, words)


class MixtureCodec:
    """`words` entries a token on average, shared out within an image as its tokens need them.

    A token is its number of entries n (uint8), its largest weight (float16), n numbers of atoms
    (uint16, heaviest first) and n weights (int8, in 127ths of the largest): 3 + 3·n bytes.
    """

    def __init__(self, words: int, state: bytes) -> None:
        """`state` is what `Dictionary.to_bytes` gave. Raises CodecStateDamaged."""
        if not 1 <= words <= _MAX_ENTRIES:
            raise CodecStateDamaged(f"{words} words a token are not between 1 and {_MAX_ENTRIES}")
        self.state = state
        self.name = f"mix{words}@{state_hash(state)}"
        dictionary = Dictionary.from_bytes(state)
        self._texts = dictionary.texts
        self._vectors = dictionary.vectors.astype(np.float32)
        lengths = np.linalg.norm(self._vectors, axis=1, keepdims=True)
        self._directions = np.divide(
            self._vectors, lengths, out=np.zeros_like(self._vectors), where=lengths > 0
        )
        self._words = words

    def encode(self, tokens: NDArray[np.float32]) -> list[bytes]:
        """See TokenCodec."""
        tokens = checked_tokens(tokens)
        self._check_dim(tokens.shape[2])
        coded: list[bytes] = []
        for start in range(0, len(tokens), _IMAGES_AT_A_TIME):
            images = tokens[start : start + _IMAGES_AT_A_TIME]
            flat = images.reshape(-1, images.shape[2])
            chosen = self._pursue(images)
            parts = [
                self._token_bytes(token, numbers)
                for token, numbers in zip(flat, chosen, strict=True)
            ]
            coded += [
                b"".join(parts[at : at + images.shape[1]])
                for at in range(0, len(parts), images.shape[1])
            ]
        return coded

    def decode(self, data: bytes, token_count: int, token_dim: int) -> NDArray[np.float32]:
        """See TokenCodec."""
        self._check_dim(token_dim)
        tokens = np.zeros((token_count, token_dim), dtype=np.float32)
        for token, (numbers, weights) in zip(tokens, self.read(data, token_count), strict=True):
            token[:] = weights @ self._vectors[numbers]
        return tokens

    def words(self, data: bytes, token_count: int) -> list[list[WeightedWord]]:
        """The words of each token, heaviest first; directions without a text are left out. Raises
        InvalidTokens.
        """
        return [
            [
                WeightedWord(self._texts[n], float(w))
                for n, w in zip(*entries, strict=True)
                if n < len(self._texts)
            ]
            for entries in self.read(data, token_count)
        ]

    def _check_dim(self, token_dim: int) -> None:
        if token_dim != self._vectors.shape[1]:
            raise CodecStateDamaged(
                f"codec {self.name} is for {self._vectors.shape[1]} values a token, not {token_dim}"
            )

    def _pursue(self, images: NDArray[np.float32]) -> list[list[int]]:
        """The atoms of each token of (B, K, D)."""
        count = images.shape[1]
        flat = images.reshape(-1, images.shape[2])
        rest = flat.copy()  # of each token, what its atoms do not say
        chosen: list[list[int]] = [[] for _ in flat]
        left = np.full(len(images), self._words * count)  # entries of each image
        ended = np.zeros(len(flat), dtype=bool)  # nothing more would help, or no more fits
        tokens = np.arange(len(flat))
        entries = np.full(len(flat), min(_ENTRIES_A_ROUND, self._words))
        while len(tokens):
            added = self._extend(flat, rest, chosen, tokens, entries)
            np.subtract.at(left, tokens // count, added)
            ended[tokens[added == 0]] = True
            ended |= np.array(
                [len(numbers) + _ENTRIES_A_ROUND > _MAX_ENTRIES for numbers in chosen]
            )
            lacking = np.where(ended, -1, np.einsum("nd,nd->n", rest, rest)).reshape(-1, count)
            open_ = (left > 0) & (lacking.max(axis=1) >= 0)
            tokens = (np.arange(len(images)) * count + lacking.argmax(axis=1))[open_]
            entries = np.minimum(_ENTRIES_A_ROUND, left[open_])
        return chosen

    def _extend(
        self,
        flat: NDArray[np.float32],
        rest: NDArray[np.float32],
        chosen: list[list[int]],
        tokens: NDArray[np.int64],
        entries: NDArray[np.int64],
    ) -> NDArray[np.int64]:
        """At most `entries` (n,) more atoms for `tokens` (n,); changes `rest` and `chosen`. How
        many each got.
        """
        closeness = np.abs(rest[tokens] @ self._directions.T)
        take = min(_CANDIDATES, closeness.shape[1])
        candidates = np.argpartition(-closeness, take - 1, axis=1)[:, :take]
        added = np.zeros(len(tokens), dtype=np.int64)
        for place, token in enumerate(tokens.tolist()):
            found = self._choose(rest[token], chosen[token], candidates[place], int(entries[place]))
            added[place] = len(found)
            if found:
                chosen[token] = chosen[token] + found
                atoms = self._directions[chosen[token]]
                weights = np.linalg.solve(_firm(atoms @ atoms.T), atoms @ flat[token])
                rest[token] = flat[token] - weights @ atoms
        return added

    def _choose(
        self, rest: NDArray[np.float32], before: list[int], around: NDArray[np.int64], entries: int
    ) -> list[int]:
        """The best few of the candidates `around`, one after the other, each for what the earlier
        ones leave.
        """
        atoms = self._directions[around]
        likeness = atoms @ atoms.T  # of the candidates, outside of all that is chosen
        if before:
            old = self._directions[before]
            shared = old @ atoms.T
            likeness -= shared.T @ np.linalg.solve(_firm(old @ old.T), shared)
        gains = atoms @ rest
        found: list[int] = []
        for _ in range(entries):
            apart = likeness.diagonal()
            scores = np.where(apart > _SAID_ALREADY, gains**2 / np.maximum(apart, _SAID_ALREADY), 0)
            best = int(scores.argmax())
            if scores[best] <= 1e-9:
                break
            found.append(int(around[best]))
            step = likeness[best] / np.sqrt(apart[best])
            gains = gains - step * (gains[best] / np.sqrt(apart[best]))
            likeness = likeness - np.outer(step, step)
        return found

    def _token_bytes(self, token: NDArray[np.float32], numbers: Sequence[int]) -> bytes:
        atoms = self._vectors[numbers].astype(np.float64)
        weights = (
            np.linalg.solve(_firm(atoms @ atoms.T), atoms @ token) if len(numbers) else np.zeros(0)
        )
        order = np.argsort(-np.abs(weights), kind="stable")
        largest = float(np.abs(weights).max(initial=0))
        if largest > _LARGEST_WEIGHT:
            raise InvalidTokens("a token is too long to be written in words")
        largest = float(np.float16(largest))
        steps = np.rint(weights[order] / largest * 127) if largest else np.zeros(0)
        kept = order[: len(steps)][steps != 0]
        steps = np.clip(steps[steps != 0], -127, 127)
        head = _HEAD.pack(len(kept), largest if len(kept) else 0.0)
        return b"".join(
            [
                head,
                np.asarray(numbers)[kept].astype("<u2").tobytes(),
                steps.astype(np.int8).tobytes(),
            ]
        )

    def read(
        self, data: bytes, token_count: int
    ) -> list[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Numbers of atoms (n,) and their weights (n,) of each token, heaviest first. Raises InvalidTokens."""
        tokens = []
        at = 0
        for _ in range(token_count):
            if at + _HEAD.size > len(data):
                raise InvalidTokens(f"{self.name} tokens of {len(data)} bytes are cut short")
            entries, largest = _HEAD.unpack_from(data, at)
            at += _HEAD.size
            if at + 3 * entries > len(data):
                raise InvalidTokens(f"{self.name} tokens of {len(data)} bytes are cut short")
            numbers = np.frombuffer(data, dtype="<u2", count=entries, offset=at).astype(np.int64)
            steps = np.frombuffer(data, dtype=np.int8, count=entries, offset=at + 2 * entries)
            at += 3 * entries
            if entries and numbers.max() >= len(self._vectors):
                raise InvalidTokens(
                    f"{self.name} tokens name an entry that the dictionary does not have"
                )
            if not np.isfinite(largest):
                raise InvalidTokens(f"{self.name} tokens hold NaN or infinity")
            tokens.append((numbers, steps.astype(np.float32) * np.float32(largest / 127)))
        if at != len(data):
            raise InvalidTokens(f"{self.name} tokens of {len(data)} bytes where {at} were expected")
        return tokens


def words_per_token(kind: str) -> int | None:
    """How many words the codec called `kind` keeps ("mix12" or "mix12@HASH": 12); None for other
    codecs.
    """
    match = re.fullmatch(r"mix([1-9]\d{0,2})(@[0-9a-f]{8})?", kind)
    return int(match[1]) if match else None


def _firm(products: NDArray) -> NDArray:  # type: ignore[type-arg]
    """A little more on the diagonal keeps near-synonyms from getting huge weights of opposite signs."""
    return products + 1e-4 * np.diag(products.diagonal())
