"""Makes the dictionary of a mixture codec from a model's vocabulary and a sample of its tokens.

Knows nothing of models. Shapes: B images, K summary tokens, D hidden size, V words of the vocabulary.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from index.codecs import checked_tokens
from index.errors import BadTokens
from index.mixture_codec import Dictionary, MixtureCodec

_WORDS = 2048  # of a dictionary; more did not help the default model
_DIRECTIONS = 64  # for what words say badly, such as the gist of a caption
_SHORTLIST = 16_384  # words that tokens come near to at all
_NEAREST = 32  # words that a token comes near to
_WORDS_TRIED = 12  # a token, to see which words are needed
_SAMPLE = 600  # images of each of the two looks at the sample
_WORST = 1500  # tokens that directions are taken from


@dataclass(frozen=True)
class Vocabulary:
    """The words of a model."""

    vectors: NDArray[np.float16]  # (V, D) input embeddings
    texts: tuple[str, ...]
    always: NDArray[np.bool_]  # (V,) words that the dictionary must have, such as those of a model's own heads

    @classmethod
    def read(cls, path: Path) -> Vocabulary:
        """A NumPy archive: `vectors`, `texts` (UTF-8 with a zero byte between), `always`. Raises BadTokens, OSError."""
        try:
            with np.load(path, allow_pickle=False) as archive:
                texts = tuple(archive["texts"].tobytes().decode().split("\0"))
                vocabulary = cls(archive["vectors"], texts, archive["always"])
        except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise BadTokens(f"{path} is not the vocabulary of a model") from error
        if vocabulary.vectors.ndim != 2 or not len(texts) == len(vocabulary.vectors) == len(vocabulary.always):
            raise BadTokens(f"{path} is not the vocabulary of a model")
        return vocabulary


def train_mixture(words: int, tokens: NDArray[np.float32], vocabulary: Vocabulary) -> MixtureCodec:
    """A codec of `words` entries a token whose dictionary suits tokens (B, K, D). Raises BadTokens."""
    tokens = checked_tokens(tokens)
    if tokens.shape[2] != vocabulary.vectors.shape[1]:
        raise BadTokens(f"tokens of {tokens.shape[2]} values, words of {vocabulary.vectors.shape[1]}")
    drawn = np.random.default_rng(0).permutation(len(tokens))
    sample, other = tokens[drawn[:_SAMPLE]], tokens[drawn[-_SAMPLE:]]
    shortlist = _near(sample, vocabulary)
    chosen = shortlist[_needed(sample, vocabulary, shortlist)]
    directions = _directions(other, _part(vocabulary, chosen))
    vectors = np.concatenate([vocabulary.vectors[chosen], directions])
    return MixtureCodec(words, Dictionary(vectors, tuple(vocabulary.texts[n] for n in chosen)).to_bytes())


def _part(vocabulary: Vocabulary, chosen: NDArray[np.int64]) -> Dictionary:
    return Dictionary(vocabulary.vectors[chosen], ())


def _near(tokens: NDArray[np.float32], vocabulary: Vocabulary) -> NDArray[np.int64]:
    """Numbers of the words that must be there or that tokens come near to, those first that must."""
    vectors = vocabulary.vectors.astype(np.float32)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)
    times = np.zeros(len(vectors), dtype=np.int64)
    take = min(_NEAREST, len(vectors))
    for image in tokens:
        nearest = np.argpartition(-np.abs(image @ vectors.T), take - 1, axis=1)[:, :take]
        np.add.at(times, nearest.ravel(), 1)
    times[vocabulary.always] = np.iinfo(np.int64).max
    order = np.argsort(-times, kind="stable")[:_SHORTLIST]
    return order[times[order] > 0]


def _needed(tokens: NDArray[np.float32], vocabulary: Vocabulary, shortlist: NDArray[np.int64]) -> NDArray[np.int64]:
    """Places in the shortlist of the words to keep, ascending."""
    codec = MixtureCodec(_WORDS_TRIED, _part(vocabulary, shortlist).to_bytes())
    times = np.zeros(len(shortlist), dtype=np.int64)
    for data in codec.encode(tokens):
        for numbers, _ in codec.read(data, tokens.shape[1]):
            np.add.at(times, numbers, 1)
    times[vocabulary.always[shortlist]] = np.iinfo(np.int64).max
    order = np.argsort(-times, kind="stable")[: max(_WORDS, int(vocabulary.always.sum()))]
    return np.sort(order[times[order] > 0])


def _directions(tokens: NDArray[np.float32], words: Dictionary) -> NDArray[np.float16]:
    """Principal directions of what half as many words leave unsaid of the tokens they say worst."""
    codec = MixtureCodec(_WORDS_TRIED // 2, words.to_bytes())
    said = np.stack([codec.decode(data, *tokens.shape[1:]) for data in codec.encode(tokens)])
    unsaid = (tokens - said).reshape(-1, tokens.shape[2])
    worst = np.argsort(-np.square(unsaid).sum(1), kind="stable")[:_WORST]
    _, strengths, directions = np.linalg.svd(unsaid[worst], full_matrices=False)
    length = np.linalg.norm(words.vectors.astype(np.float32), axis=1).mean()
    kept = directions[:_DIRECTIONS][strengths[:_DIRECTIONS] > 1e-6 * max(strengths.max(initial=0), 1e-12)]
    return np.asarray(kept * length, dtype=np.float16)
