"""Token codec over a dictionary: a token as a few words and their weights.

For soft words, which are mixtures of word embeddings: a few words give most of a token and can be
read. Entries are found by orthogonal matching pursuit (Pati, Rezaiifar, Krishnaprasad 1993),
several at a time: every token of an image gets a first few, then the token with the largest
residual gets the next, until the image's entries are used up.

Shapes: B images, K summary tokens, D hidden size, A atoms (dictionary entries), N tokens, n atoms
of one token.
"""

from __future__ import annotations

import io
import re
import struct
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index.codecs.scalar import WeightedWord, checked_tokens, state_hash
from index.errors import CodecStateDamaged, InvalidTokens
from index.ports import Floats, Ints

MAX_ATOMS = 2**16  # what uint16 numbers
_VERSION = 1
_MAX_ENTRIES = 255  # of one token: what uint8 counts
_ENTRIES_PER_ROUND = 6
_CANDIDATES = 48  # atoms nearest to the residual, among which a round chooses
# An atom with less than this share of its energy outside of the chosen ones is not chosen: the two
# would get large weights of opposite signs.
_MIN_INDEPENDENCE = 0.05
_MIN_GAIN = 1e-9  # squared length taken off the residual
_IMAGES_PER_CHUNK = 32  # bounds memory
_MAX_WEIGHT = 65504.0  # of float16
_WEIGHT_STEPS = 127
_TOKEN_HEAD = struct.Struct("<Be")  # entries of the token, its largest weight
_BYTES_PER_ENTRY = 3  # number (uint16) and weight (int8)


@dataclass(frozen=True)
class Dictionary:
    """The atoms that tokens are written in: word embeddings with their texts, then directions
    without a word.
    """

    vectors: NDArray[np.float16]  # (A, D)
    texts: tuple[str, ...]  # of the first atoms

    def to_bytes(self) -> bytes:
        """A NumPy archive; the same dictionary gives the same bytes."""
        file = io.BytesIO()
        text = "\0".join(self.texts)
        texts = np.frombuffer(text.encode(), dtype=np.uint8)
        vectors = self.vectors.astype("<f2")
        np.savez(file, version=np.uint32(_VERSION), vectors=vectors, texts=texts)
        return file.getvalue()

    @classmethod
    def from_bytes(cls, state: bytes) -> Dictionary:
        """Raises CodecStateDamaged."""
        try:
            # Without pickle: the state comes with a model from strangers.
            with np.load(io.BytesIO(state), allow_pickle=False) as archive:
                version = int(archive["version"])
                vectors = archive["vectors"]
                text = archive["texts"].tobytes().decode()
        except (
            OSError,
            ValueError,
            KeyError,
            TypeError,
            EOFError,
            zipfile.BadZipFile,
        ) as error:
            raise CodecStateDamaged(
                "the dictionary of a codec cannot be read"
            ) from error
        if version != _VERSION:
            raise CodecStateDamaged(
                f"a dictionary of version {version}, not {_VERSION}"
            )
        texts = tuple(text.split("\0")) if text else ()
        if not _are_atoms(vectors) or len(texts) > len(vectors):
            raise CodecStateDamaged(
                "the dictionary of a codec has wrong shapes or values"
            )
        return cls(vectors, texts)


def _are_atoms(vectors: NDArray[Any]) -> bool:
    if vectors.ndim != 2 or vectors.dtype != np.float16:
        return False
    if not 1 <= len(vectors) <= MAX_ATOMS:
        return False
    return bool(np.isfinite(vectors).all())


class MixtureCodec:
    """`words` entries a token on average, shared out within an image as its tokens need them.

    A token is its number of entries n (uint8), its largest weight (float16), n numbers of atoms
    (uint16, heaviest first) and n weights (int8, in 127ths of the largest): 3 + 3·n bytes.
    """

    def __init__(self, words: int, state: bytes) -> None:
        """`state` is what `Dictionary.to_bytes` returned. Raises CodecStateDamaged."""
        if not 1 <= words <= _MAX_ENTRIES:
            raise CodecStateDamaged(
                f"{words} words a token are not between 1 and {_MAX_ENTRIES}"
            )
        self.state = state
        self.name = f"mix{words}@{state_hash(state)}"
        self._words = words
        dictionary = Dictionary.from_bytes(state)
        self._texts = dictionary.texts
        self._atoms = dictionary.vectors.astype(np.float32)
        self._pursuit = _Pursuit(self._atoms, words)

    def encode(self, tokens: Floats) -> list[bytes]:
        """See TokenCodec."""
        tokens = checked_tokens(tokens)
        self._check_dim(tokens.shape[2])
        encoded: list[bytes] = []
        for start in range(0, len(tokens), _IMAGES_PER_CHUNK):
            encoded += self._encode_chunk(tokens[start : start + _IMAGES_PER_CHUNK])
        return encoded

    def _encode_chunk(self, images: Floats) -> list[bytes]:
        chosen = iter(self._pursuit.choose(images))
        encoded = []
        for image in images:
            tokens = map(self._encode_token, image, chosen)
            encoded.append(b"".join(tokens))
        return encoded

    def decode(self, data: bytes, token_count: int, token_dim: int) -> Floats:
        """See TokenCodec."""
        self._check_dim(token_dim)
        tokens = np.zeros((token_count, token_dim), dtype=np.float32)
        for place, entries in enumerate(self.read(data, token_count)):
            numbers, weights = entries
            tokens[place] = weights @ self._atoms[numbers]
        return tokens

    def words(self, data: bytes, token_count: int) -> list[list[WeightedWord]]:
        """The words of each token, heaviest first, without directions that have no word.

        Raises InvalidTokens.
        """
        return [self._words_of(*entries) for entries in self.read(data, token_count)]

    def _words_of(self, numbers: Ints, weights: Floats) -> list[WeightedWord]:
        is_word = numbers < len(self._texts)
        texts = [self._texts[number] for number in numbers[is_word]]
        return list(map(WeightedWord, texts, weights[is_word].tolist()))

    def read(self, data: bytes, token_count: int) -> list[tuple[Ints, Floats]]:
        """Atom numbers (n,) and weights (n,) of each token, heaviest first.

        Raises InvalidTokens.
        """
        tokens = []
        offset = 0
        for _ in range(token_count):
            numbers, weights, offset = self._read_token(data, offset)
            tokens.append((numbers, weights))
        if offset != len(data):
            raise InvalidTokens(
                f"{self.name} tokens of {len(data)} bytes where {offset} were expected"
            )
        return tokens

    def _read_token(self, data: bytes, offset: int) -> tuple[Ints, Floats, int]:
        """Numbers and weights of the token at `offset`, and the offset of the next."""
        # Lengths are checked before every read: these bytes may be of another codec.
        self._check_left(data, offset, _TOKEN_HEAD.size)
        count, largest = _TOKEN_HEAD.unpack_from(data, offset)
        offset += _TOKEN_HEAD.size
        self._check_left(data, offset, _BYTES_PER_ENTRY * count)
        numbers = np.frombuffer(data, dtype="<u2", count=count, offset=offset)
        numbers = numbers.astype(np.int64)
        steps_offset = offset + 2 * count
        steps = np.frombuffer(data, dtype=np.int8, count=count, offset=steps_offset)
        if (numbers >= len(self._atoms)).any():
            raise InvalidTokens(
                f"{self.name} tokens name an entry that the dictionary lacks"
            )
        if not np.isfinite(largest):
            raise InvalidTokens(f"{self.name} tokens hold NaN or infinity")
        step_size = np.float32(largest / _WEIGHT_STEPS)
        weights = steps.astype(np.float32) * step_size
        return numbers, weights, offset + _BYTES_PER_ENTRY * count

    def _check_left(self, data: bytes, offset: int, needed: int) -> None:
        if offset + needed > len(data):
            raise InvalidTokens(
                f"{self.name} tokens of {len(data)} bytes are cut short"
            )

    def _encode_token(self, token: Floats, numbers: Sequence[int]) -> bytes:
        # Solved again for the atoms as they are stored; the pursuit worked with unit lengths.
        atoms = self._atoms[numbers].astype(np.float64)
        weights = _solve_weights(atoms, token)
        order = np.argsort(-np.abs(weights), kind="stable")
        largest = float(np.abs(weights).max(initial=0))
        if largest > _MAX_WEIGHT:
            raise InvalidTokens("a token is too long to be written in words")
        # Rounded first, so that the steps are those of the weight that a reader finds.
        largest = float(np.float16(largest))
        # Weights that float16 rounds to zero are zero steps of any size.
        divisor = largest or 1.0
        steps = np.rint(weights[order] / divisor * _WEIGHT_STEPS)
        is_kept = steps != 0
        ordered = np.asarray(numbers, dtype=np.int64)[order]
        kept = ordered[is_kept]
        # The rounded weight may be the smaller one, and the first then 128 steps.
        steps = np.clip(steps[is_kept], -_WEIGHT_STEPS, _WEIGHT_STEPS)
        if not len(kept):
            largest = 0.0
        parts = [
            _TOKEN_HEAD.pack(len(kept), largest),
            kept.astype("<u2").tobytes(),
            steps.astype(np.int8).tobytes(),
        ]
        return b"".join(parts)

    def _check_dim(self, token_dim: int) -> None:
        if token_dim != self._atoms.shape[1]:
            raise CodecStateDamaged(
                f"codec {self.name} is for {self._atoms.shape[1]} values a token, not {token_dim}"
            )


class _Pursuit:
    """Orthogonal matching pursuit over the tokens of an image together."""

    def __init__(self, atoms: Floats, words: int) -> None:
        """`atoms` (A, D); `words` a token on average."""
        lengths = np.linalg.norm(atoms, axis=1, keepdims=True)
        # An atom of length zero keeps direction zero and is never chosen.
        directions = np.zeros_like(atoms)
        np.divide(atoms, lengths, out=directions, where=lengths > 0)
        self._directions = directions
        self._words = words

    def choose(self, images: Floats) -> list[list[int]]:
        """The atoms of each token of images (B, K, D), token by token."""
        image_count, token_count, dim = images.shape
        tokens = images.reshape(-1, dim)
        residuals = tokens.copy()
        chosen: list[list[int]] = [[] for _ in tokens]
        entries_left = np.full(image_count, self._words * token_count)
        is_done = np.zeros(
            len(tokens), dtype=bool
        )  # no atom helps any more, or none fits
        first_tokens = np.arange(image_count) * token_count
        # The first round is for all tokens, each later one for the worst token of each image: that
        # is what lets a plain token cost six bytes and a rich one take what it needs.
        turn = np.arange(len(tokens))
        first_entries = min(_ENTRIES_PER_ROUND, self._words)
        entries = np.full(len(tokens), first_entries)
        while len(turn):
            added = self._extend(tokens, residuals, chosen, turn, entries)
            np.subtract.at(entries_left, turn // token_count, added)
            is_done[turn[added == 0]] = True
            is_full = [
                len(numbers) + _ENTRIES_PER_ROUND > _MAX_ENTRIES for numbers in chosen
            ]
            is_done |= np.array(is_full)
            energies = np.einsum("nd,nd->n", residuals, residuals)
            energies[is_done] = -1
            energies = energies.reshape(image_count, token_count)
            has_open_token = energies.max(axis=1) >= 0
            is_open = (entries_left > 0) & has_open_token
            worst_tokens = first_tokens + energies.argmax(axis=1)
            turn = worst_tokens[is_open]
            entries = np.minimum(_ENTRIES_PER_ROUND, entries_left[is_open])
        return chosen

    def _extend(
        self,
        tokens: Floats,
        residuals: Floats,
        chosen: list[list[int]],
        turn: Ints,
        entries: Ints,
    ) -> Ints:
        """Adds at most `entries` (n,) atoms to the tokens `turn` (n,); returns how many each got.

        Changes `residuals` and `chosen`.
        """
        closeness = np.abs(residuals[turn] @ self._directions.T)
        # The exact pursuit below is quadratic in its candidates; the shortlist bounds it.
        count = min(_CANDIDATES, closeness.shape[1])
        order = np.argpartition(-closeness, count - 1, axis=1)
        candidates = order[:, :count]
        added = np.zeros(len(turn), dtype=np.int64)
        for place, token in enumerate(turn.tolist()):
            most = int(entries[place])
            numbers = self._choose_next(
                residuals[token], chosen[token], candidates[place], most
            )
            added[place] = len(numbers)
            if numbers:
                chosen[token] = chosen[token] + numbers
                directions = self._directions[chosen[token]]
                # Orthogonal: all weights are solved again, so that what is left is at right angles
                # to every chosen atom.
                weights = _solve_weights(directions, tokens[token])
                residuals[token] = tokens[token] - weights @ directions
        return added

    def _choose_next(
        self,
        residual: Floats,
        chosen: list[int],
        candidates: Ints,
        entries: int,
    ) -> list[int]:
        """At most `entries` of the candidates, one by one, each for what the earlier leave."""
        directions = self._directions[candidates]
        # Inner products of the parts of the candidates outside of the span of all chosen atoms;
        # kept up to date by one step of Gram-Schmidt for each choice.
        products = directions @ directions.T
        if chosen:
            previous = self._directions[chosen]
            shared = previous @ directions.T
            gram = _regularised(previous @ previous.T)
            products -= shared.T @ np.linalg.solve(gram, shared)
        gains = directions @ residual
        numbers: list[int] = []
        for _ in range(entries):
            independence = products.diagonal()
            scores = gains**2 / np.maximum(independence, _MIN_INDEPENDENCE)
            scores = np.where(independence > _MIN_INDEPENDENCE, scores, 0)
            best = int(scores.argmax())
            if scores[best] <= _MIN_GAIN:
                break
            numbers.append(int(candidates[best]))
            length = np.sqrt(independence[best])
            direction = products[best] / length
            gains = gains - direction * (gains[best] / length)
            products = products - np.outer(direction, direction)
        return numbers


def words_per_token(kind: str) -> int | None:
    """The number of words in the name of a mixture codec ("mix12", "mix12@HASH"), else None."""
    match = re.fullmatch(r"mix([1-9]\d{0,2})(@[0-9a-f]{8})?", kind)
    return int(match[1]) if match else None


def _solve_weights(atoms: NDArray[Any], token: Floats) -> NDArray[Any]:
    """The weights (n,) by which atoms (n, D) come closest to a token (D,)."""
    if not len(atoms):
        return np.zeros(0)
    gram = _regularised(atoms @ atoms.T)
    return np.linalg.solve(gram, atoms @ token)


def _regularised(products: NDArray[Any]) -> NDArray[Any]:
    """Inner products (n, n) with a ridge."""
    # Near-synonyms would otherwise get huge weights of opposite signs, which int8 steps ruin.
    return products + 1e-4 * np.diag(products.diagonal())
