"""Training of the codecs that need it: from a sample of tokens to the state that ships with a
model.

Knows nothing of models or records. Shapes: N sample tokens, D hidden size.
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
from index.files import write_whole

# Makes the dictionary of a mixture codec from a model's vocabulary and a sample of its tokens.
#  Shapes: B images, K summary tokens, D hidden size, V words of the vocabulary.


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
    always: NDArray[
        np.bool_
    ]  # (V,) words that the dictionary must have, such as those of a model's own heads

    @classmethod
    def read(cls, path: Path) -> Vocabulary:
        """A NumPy archive: `vectors`, `texts` (UTF-8 with a zero byte between), `always`. Raises
        InvalidTokens, OSError.
        """
        try:
            with np.load(path, allow_pickle=False) as archive:
                texts = tuple(archive["texts"].tobytes().decode().split("\0"))
                vocabulary = cls(archive["vectors"], texts, archive["always"])
        except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise InvalidTokens(f"{path} is not the vocabulary of a model") from error
        if vocabulary.vectors.ndim != 2 or not len(texts) == len(vocabulary.vectors) == len(
            vocabulary.always
        ):
            raise InvalidTokens(f"{path} is not the vocabulary of a model")
        return vocabulary


def train_mixture(words: int, tokens: NDArray[np.float32], vocabulary: Vocabulary) -> MixtureCodec:
    """A codec of `words` entries a token whose dictionary suits tokens (B, K, D). Raises InvalidTokens."""
    tokens = checked_tokens(tokens)
    if tokens.shape[2] != vocabulary.vectors.shape[1]:
        raise InvalidTokens(
            f"tokens of {tokens.shape[2]} values, words of {vocabulary.vectors.shape[1]}"
        )
    drawn = np.random.default_rng(0).permutation(len(tokens))
    sample, other = tokens[drawn[:_SAMPLE]], tokens[drawn[-_SAMPLE:]]
    shortlist = _near(sample, vocabulary)
    chosen = shortlist[_needed(sample, vocabulary, shortlist)]
    directions = _directions(other, _part(vocabulary, chosen))
    vectors = np.concatenate([vocabulary.vectors[chosen], directions])
    return MixtureCodec(
        words, Dictionary(vectors, tuple(vocabulary.texts[n] for n in chosen)).to_bytes()
    )


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


def _needed(
    tokens: NDArray[np.float32], vocabulary: Vocabulary, shortlist: NDArray[np.int64]
) -> NDArray[np.int64]:
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
    kept = directions[:_DIRECTIONS][
        strengths[:_DIRECTIONS] > 1e-6 * max(strengths.max(initial=0), 1e-12)
    ]
    return np.asarray(kept * length, dtype=np.float16)


# FAISS factory strings by family; {n} is the number of bytes a token. "np": without the long
# optimisation of the order of centroids that only searching in Hamming space needs.
FAMILIES: dict[str, str] = {
    "pq": "PQ{n}x8np",  # product quantiser: {n} parts of D, 256 centroids each
    # after a rotation trained to make the parts independent; state grows by D² floats
    "opq": "OPQ{n},PQ{n}x8np",
    # residual quantiser: {n} codebooks of whole tokens; state of {n}·256·D floats, slow to write
    "rq": "RQ{n}x8",
}
MIN_SAMPLE = 39 * 256  # what FAISS asks for to place 256 centroids


def factory_string(kind: str, token_dim: int) -> str:
    """The FAISS factory string of a trained codec such as "pq72" (72 bytes a token). Raises
    UnknownEngine.
    """
    match = re.fullmatch(r"([a-z]+)([1-9]\d*)", kind)
    if match is None or match[1] not in FAMILIES:
        raise UnknownEngine(
            f"no trained codec is called {kind!r}; there are {', '.join(FAMILIES)}, each with a number"
        )
    family, size = match[1], int(match[2])
    if family != "rq" and token_dim % size:
        raise UnknownEngine(f"codec {kind} does not divide tokens of {token_dim} values evenly")
    return FAMILIES[family].format(n=size)


def train_codec(kind: str, tokens: NDArray[np.float32]) -> TrainedCodec:
    """A codec trained on tokens (N, D), N at least 9,984. The same tokens give the same state on
    one thread.

    Raises InvalidTokens, UnknownEngine.
    """
    if tokens.ndim != 2 or len(tokens) < MIN_SAMPLE or not np.isfinite(tokens).all():
        raise InvalidTokens(
            f"training needs at least {MIN_SAMPLE} finite tokens (N, D), not {tokens.shape}"
        )
    index = faiss.index_factory(tokens.shape[1], factory_string(kind, tokens.shape[1]))
    index.train(np.ascontiguousarray(tokens, dtype=np.float32))
    return TrainedCodec(kind, faiss.serialize_index(index).tobytes())


def train_on_images(
    kind: str, tokens: NDArray[np.float32], vocabulary: Vocabulary | None = None
) -> tuple[StatefulCodec, float]:
    """A codec trained on the first nine tenths of (B, K, D), and what it loses of the images behind
    them.

    See `share_lost`. Images are not split, since tokens of one image resemble each other. A mixture
    ("mix16") needs the vocabulary of the model. Raises InvalidTokens, UnknownEngine.
    """
    tokens = checked_tokens(tokens)
    images, _, dim = tokens.shape
    seen = images - max(1, images // 10)
    words = words_per_token(kind)
    codec: StatefulCodec
    if words is None:
        codec = train_codec(kind, tokens[:seen].reshape(-1, dim))
    elif vocabulary is None:
        raise InvalidTokens(f"codec {kind} is trained on the vocabulary of its model too")
    else:
        codec = train_mixture(words, tokens[:seen], vocabulary)
    return codec, share_lost(codec, tokens[seen:])


def share_lost(codec: TokenCodec, tokens: NDArray[np.float32]) -> float:
    """Squared error of reading back (B, K, D), by the tokens' variance: 0 is lossless, 1 as bad as
    their mean.
    """
    _, count, dim = tokens.shape
    read = np.stack([codec.decode(data, count, dim) for data in codec.encode(tokens)])
    variance = np.square(tokens - tokens.mean(axis=(0, 1))).mean()
    return float(np.square(read - tokens).mean() / variance) if variance else 0.0


def write_state(codec: StatefulCodec, path: Path) -> None:
    """Writes the state for shipping: `codec_state` of `open_library`. Raises OSError."""
    write_whole(path, lambda take: take(codec.state))
