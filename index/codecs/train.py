"""Training of codecs: a sample of a model's tokens to the state that ships with the model.

Shapes: B images, K summary tokens, D hidden size, N tokens, V words of the vocabulary.
"""

from __future__ import annotations

import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from index.codecs.dictionary import Dictionary, MixtureCodec, words_per_token
from index.codecs.scalar import StatefulCodec, TokenCodec, TrainedCodec, checked_tokens
from index.errors import InvalidTokens, UnknownEngine
from index.files import write_bytes
from index.ports import Floats, Ints

# FAISS factory strings by family; {n} is the number of bytes a token. "np" leaves out the ordering
# of centroids for Hamming distances, which takes long and is not needed to decode.
FAMILIES: dict[str, str] = {
    # product quantiser: {n} parts of D, 256 centroids each
    "pq": "PQ{n}x8np",
    # after a trained rotation that makes the parts independent; its state grows by D² floats
    "opq": "OPQ{n},PQ{n}x8np",
    # residual quantiser: {n} codebooks of whole tokens; state of {n}·256·D floats, slow to encode
    "rq": "RQ{n}x8",
}
MIN_SAMPLE = 39 * 256  # tokens: FAISS asks for 39 for each of 256 centroids

_MAX_WORDS = 2048  # of a dictionary; more did not help the default model
_MAX_DIRECTIONS = 64  # for what words express badly, such as the gist of a caption
_SHORTLIST = 16_384  # words that are near to any token
_NEAREST = 32  # words counted as near to a token
_TRIAL_WORDS = 12  # a token, in the pursuit that counts which words are used
_SAMPLE_IMAGES = 600  # for words, and as many others for directions
_WORST_TOKENS = 1500  # that directions are computed from
_MIN_STRENGTH = 1e-6  # of a direction, relative to the strongest


@dataclass(frozen=True)
class Vocabulary:
    """The words of a model."""

    vectors: NDArray[np.float16]  # (V, D) input embeddings
    texts: tuple[str, ...]

    @classmethod
    def read(cls, path: Path) -> Vocabulary:
        """From a NumPy archive: `vectors`, and `texts` in UTF-8 with a zero byte between.

        Raises InvalidTokens, OSError.
        """
        try:
            with np.load(path, allow_pickle=False) as archive:
                text = archive["texts"].tobytes().decode()
                texts = tuple(text.split("\0"))
                vocabulary = cls(archive["vectors"], texts)
        except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise InvalidTokens(f"{path} is not the vocabulary of a model") from error
        vectors = vocabulary.vectors
        if vectors.ndim != 2 or len(vectors) != len(vocabulary.texts):
            raise InvalidTokens(f"{path} is not the vocabulary of a model")
        return vocabulary

    def part(self, numbers: Ints) -> Dictionary:
        """The words `numbers` as a dictionary without texts."""
        return Dictionary(self.vectors[numbers], ())


def train_mixture(words: int, tokens: Floats, vocabulary: Vocabulary) -> MixtureCodec:
    """A codec of `words` entries a token, its dictionary fitted to tokens (B, K, D).

    Raises InvalidTokens.
    """
    tokens = checked_tokens(tokens)
    dim = vocabulary.vectors.shape[1]
    if tokens.shape[2] != dim:
        raise InvalidTokens(f"tokens of {tokens.shape[2]} values, words of {dim}")
    random = np.random.default_rng(0)
    order = random.permutation(len(tokens))
    word_sample = tokens[order[:_SAMPLE_IMAGES]]
    # From the other end: directions are for tokens that the words were not chosen for.
    direction_sample = tokens[order[-_SAMPLE_IMAGES:]]
    shortlist = _near_words(word_sample, vocabulary)
    chosen = shortlist[_used_words(word_sample, vocabulary, shortlist)]
    directions = _directions(direction_sample, vocabulary.part(chosen))
    word_vectors = vocabulary.vectors[chosen]
    vectors = np.concatenate([word_vectors, directions])
    texts = tuple(vocabulary.texts[number] for number in chosen)
    return MixtureCodec(words, Dictionary(vectors, texts).to_bytes())


def _near_words(tokens: Floats, vocabulary: Vocabulary) -> Ints:
    """Numbers of the words near to any token, most often first."""
    # A shortlist first: a pursuit computes with every word in every round, nearness only once.
    vectors = vocabulary.vectors.astype(np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors /= np.maximum(lengths, 1e-6)
    uses = np.zeros(len(vectors), dtype=np.int64)
    count = min(_NEAREST, len(vectors))
    for image in tokens:
        closeness = np.abs(image @ vectors.T)
        order = np.argpartition(-closeness, count - 1, axis=1)
        nearest = order[:, :count]
        np.add.at(uses, nearest.ravel(), 1)
    return _most_used(uses, _SHORTLIST)


def _used_words(tokens: Floats, vocabulary: Vocabulary, shortlist: Ints) -> Ints:
    """Places in the shortlist of the words that a pursuit uses most, ascending."""
    words = vocabulary.part(shortlist)
    codec = MixtureCodec(_TRIAL_WORDS, words.to_bytes())
    uses = np.zeros(len(shortlist), dtype=np.int64)
    token_count = tokens.shape[1]
    for data in codec.encode(tokens):
        for numbers, _ in codec.read(data, token_count):
            np.add.at(uses, numbers, 1)
    return np.sort(_most_used(uses, _MAX_WORDS))


def _most_used(uses: Ints, count: int) -> Ints:
    """At most `count` places with the most uses, none without."""
    order = np.argsort(-uses, kind="stable")[:count]
    return order[uses[order] > 0]


def _directions(tokens: Floats, words: Dictionary) -> NDArray[np.float16]:
    """Principal directions of what the words leave of the tokens they express worst."""
    # Half the words of the trial: a direction is to replace several words, so it is computed from
    # residuals as large as those that a small budget leaves.
    codec = MixtureCodec(_TRIAL_WORDS // 2, words.to_bytes())
    residuals = tokens - _decoded(codec, tokens)
    residuals = residuals.reshape(-1, tokens.shape[2])
    energies = np.square(residuals).sum(axis=1)
    worst = np.argsort(-energies, kind="stable")[:_WORST_TOKENS]
    worst_residuals = residuals[worst]
    _, strengths, directions = np.linalg.svd(worst_residuals, full_matrices=False)
    strongest = strengths.max(initial=0)
    min_strength = _MIN_STRENGTH * max(strongest, 1e-12)
    is_kept = strengths[:_MAX_DIRECTIONS] > min_strength
    # As long as words are, so that their weights share one scale and its int8 steps.
    word_vectors = words.vectors.astype(np.float32)
    length = np.linalg.norm(word_vectors, axis=1).mean()
    kept = directions[:_MAX_DIRECTIONS][is_kept]
    return np.asarray(kept * length, dtype=np.float16)


def factory_string(kind: str, token_dim: int) -> str:
    """The FAISS factory string of a codec such as "pq72" (72 bytes a token).

    Raises UnknownEngine.
    """
    match = re.fullmatch(r"([a-z]+)([1-9]\d*)", kind)
    if match is None or match[1] not in FAMILIES:
        families = ", ".join(FAMILIES)
        raise UnknownEngine(
            f"no trained codec is called {kind!r}; there are {families}, each with a number"
        )
    family = match[1]
    size = int(match[2])
    if family != "rq" and token_dim % size:
        raise UnknownEngine(
            f"codec {kind} does not divide tokens of {token_dim} values evenly"
        )
    return FAMILIES[family].format(n=size)


def train_codec(kind: str, tokens: Floats) -> TrainedCodec:
    """A FAISS codec trained on tokens (N, D), N at least 9,984; deterministic on one thread.

    Raises InvalidTokens, UnknownEngine.
    """
    is_enough = tokens.ndim == 2 and len(tokens) >= MIN_SAMPLE
    if not is_enough or not np.isfinite(tokens).all():
        raise InvalidTokens(
            f"training needs at least {MIN_SAMPLE} finite tokens (N, D), not {tokens.shape}"
        )
    dim = tokens.shape[1]
    index = faiss.index_factory(dim, factory_string(kind, dim))
    sample = np.ascontiguousarray(tokens, dtype=np.float32)
    index.train(sample)
    return TrainedCodec(kind, faiss.serialize_index(index).tobytes())


def train_on_images(
    kind: str, tokens: Floats, vocabulary: Vocabulary | None = None
) -> tuple[StatefulCodec, float]:
    """A codec trained on nine tenths of the images (B, K, D), and its loss on the last tenth.

    The loss is `share_lost`. A mixture ("mix16") needs the vocabulary of the model. Raises
    InvalidTokens, UnknownEngine.
    """
    tokens = checked_tokens(tokens)
    images, _, dim = tokens.shape
    # Split between images: tokens of one image resemble each other, and a split between tokens
    # would measure the loss on near-copies of the training data.
    trained_images = images - max(1, images // 10)
    sample = tokens[:trained_images]
    words = words_per_token(kind)
    codec: StatefulCodec
    if words is None:
        codec = train_codec(kind, sample.reshape(-1, dim))
    elif vocabulary is None:
        raise InvalidTokens(
            f"codec {kind} is trained on the vocabulary of its model too"
        )
    else:
        codec = train_mixture(words, sample, vocabulary)
    return codec, share_lost(codec, tokens[trained_images:])


def share_lost(codec: TokenCodec, tokens: Floats) -> float:
    """Squared error of decoded tokens (B, K, D) over their variance: 0 is lossless."""
    deviations = tokens - tokens.mean(axis=(0, 1))
    variance = np.square(deviations).mean()
    if not variance:
        return 0.0
    errors = _decoded(codec, tokens) - tokens
    return float(np.square(errors).mean() / variance)


def _decoded(codec: TokenCodec, tokens: Floats) -> Floats:
    """Tokens (B, K, D), encoded and decoded."""
    _, count, dim = tokens.shape
    decoded = [codec.decode(data, count, dim) for data in codec.encode(tokens)]
    return np.stack(decoded)


def write_state(codec: StatefulCodec, path: Path) -> None:
    """Writes trained state to ship: `codec_state` of `open_library`. Raises OSError."""
    write_bytes(path, codec.state)
