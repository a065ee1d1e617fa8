"""A made-up vocabulary and tokens that are mixtures of its words."""

from __future__ import annotations

import numpy as np

from index.codecs.dictionary import Dictionary
from index.codecs.train import Vocabulary

V, D = 3000, 64


def word_vectors() -> np.ndarray:
    """(V, D), with a part common to all words and lengths that differ, as in real embeddings."""
    random = np.random.default_rng(0)
    own = random.normal(size=(V, D))
    common = 0.3 * random.normal(size=D)
    lengths = random.uniform(0.5, 2, size=(V, 1))
    words = (own + common) * lengths
    return words.astype(np.float16)


def texts() -> tuple[str, ...]:
    return tuple(f" word {number}" for number in range(V))


def dictionary() -> Dictionary:
    """Every word, no other direction."""
    return Dictionary(word_vectors(), texts())


def vocabulary() -> Vocabulary:
    return Vocabulary(word_vectors(), texts())


def mixtures(
    words: int, seed: int = 1, images: int = 3, tokens: int = 5, of: int = V
) -> tuple[np.ndarray, np.ndarray]:
    """Tokens (images, tokens, D) of `words` of the first `of` words, and the numbers (N, words).

    Numbers are heaviest first.
    """
    random = np.random.default_rng(seed)
    count = images * tokens
    drawn = [random.choice(of, size=words, replace=False) for _ in range(count)]
    numbers = np.stack(drawn)
    shares = random.dirichlet(np.ones(words), size=count)
    weights = np.sort(shares)[:, ::-1]
    vectors = word_vectors().astype(np.float64)
    mixed = np.einsum("nw,nwd->nd", weights, vectors[numbers])
    mixed = mixed.astype(np.float32)
    return mixed.reshape(images, tokens, D), numbers
