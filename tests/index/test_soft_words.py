"""The codec in soft words: finds the words of a mixture, says them, and is as small as it claims."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from index.codec_shelf import CodecShelf
from index.errors import BadTokens, CodecStateDamaged, CodecStateMissing
from index.soft_words import SoftWordCodec, words_a_token

V, D = 3000, 64


@pytest.fixture(scope="module")
def vocabulary() -> np.ndarray:
    random = np.random.default_rng(0)
    # A common part in every word and lengths that differ, as in real embedding matrices.
    words = random.normal(size=(V, D)) + 0.3 * random.normal(size=D)
    return (words * random.uniform(0.5, 2, size=(V, 1))).astype(np.float32)


def mixtures(vocabulary: np.ndarray, words: int, seed: int = 1, images: int = 3, tokens: int = 5) -> tuple:
    """Tokens (images, tokens, D) of `words` words each, with the numbers and weights they were made of."""
    random = np.random.default_rng(seed)
    numbers = np.stack([random.choice(V, size=words, replace=False) for _ in range(images * tokens)])
    weights = np.sort(random.dirichlet(np.ones(words), size=images * tokens))[:, ::-1]
    made = np.einsum("nw,nwd->nd", weights, vocabulary[numbers]).astype(np.float32)
    return made.reshape(images, tokens, D), numbers, weights


def test_a_single_word_comes_back_exactly_named(vocabulary: np.ndarray) -> None:
    codec = SoftWordCodec(4, vocabulary)
    (data,) = codec.encode(vocabulary[[5, 2999, 0]][None])
    assert [words[0].number for words in codec.words(data, 3)] == [5, 2999, 0]
    assert [words[0].weight for words in codec.words(data, 3)] == pytest.approx([1, 1, 1], abs=0.01)
    assert np.allclose(codec.decode(data, 3, D), vocabulary[[5, 2999, 0]], atol=0.05)


def test_the_heaviest_words_of_a_mixture_are_found(vocabulary: np.ndarray) -> None:
    tokens, numbers, _ = mixtures(vocabulary, words=3)
    codec = SoftWordCodec(6, vocabulary)
    found = [words for data in codec.encode(tokens) for words in codec.words(data, 5)]
    heaviest = [words[0].number for words in found]
    assert np.mean([h in numbers[i][:2] for i, h in enumerate(heaviest)]) > 0.8
    assert all(abs(w.weight) <= abs(words[0].weight) + 1e-6 for words in found for w in words)


def test_more_words_say_more(vocabulary: np.ndarray) -> None:
    tokens, _, _ = mixtures(vocabulary, words=12)
    errors = []
    for words in (1, 2, 4, 8, 16):
        codec = SoftWordCodec(words, vocabulary)
        decoded = np.stack([codec.decode(data, 5, D) for data in codec.encode(tokens)])
        errors.append(float(np.mean((decoded - tokens) ** 2) / np.mean(tokens**2)))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.1


def test_the_length_of_a_code(vocabulary: np.ndarray) -> None:
    tokens, _, _ = mixtures(vocabulary, words=2)
    assert all(len(data) == 5 * (2 + 8 * 3) for data in SoftWordCodec(8, vocabulary).encode(tokens))
    many = np.random.default_rng(0).normal(size=(70_000, 4)).astype(np.float32)
    codec = SoftWordCodec(2, many)
    (data,) = codec.encode(many[[69_999]][None])
    assert len(data) == 2 + 2 * 4
    assert codec.words(data, 1)[0][0].number == 69_999


def test_zero_tokens_and_no_images(vocabulary: np.ndarray) -> None:
    codec = SoftWordCodec(3, vocabulary)
    (data,) = codec.encode(np.zeros((1, 2, D), dtype=np.float32))
    assert np.array_equal(codec.decode(data, 2, D), np.zeros((2, D), dtype=np.float32))
    assert codec.words(data, 2) == [[], []]
    assert codec.encode(np.zeros((0, 2, D), dtype=np.float32)) == []


def test_refuses_what_it_cannot_hold(vocabulary: np.ndarray) -> None:
    codec = SoftWordCodec(3, vocabulary)
    with pytest.raises(BadTokens):
        codec.encode(np.full((1, 2, D), np.nan, dtype=np.float32))
    with pytest.raises(BadTokens):
        codec.encode(vocabulary[:1][None] * 1e6)
    with pytest.raises(CodecStateDamaged):
        codec.encode(np.zeros((1, 2, D + 1), dtype=np.float32))
    (data,) = codec.encode(vocabulary[:2][None])
    for wrong in (data[:-1], data + b"\0", b"\xff" * len(data)):
        with pytest.raises(BadTokens):
            codec.decode(wrong, 2, D)
    for words, matrix in ((0, vocabulary), (V + 1, vocabulary), (1, vocabulary[0]), (1, vocabulary * np.nan)):
        with pytest.raises(CodecStateDamaged):
            SoftWordCodec(words, matrix)


def test_the_shelf_knows_the_vocabulary(tmp_path: Path, vocabulary: np.ndarray) -> None:
    shelf = CodecShelf(tmp_path, vocabulary)
    codec = shelf.choose("words4", None)
    assert codec.name == SoftWordCodec(4, vocabulary).name
    assert shelf.by_name(codec.name) is codec
    for other in (CodecShelf(tmp_path), CodecShelf(tmp_path, vocabulary + 1)):
        with pytest.raises(CodecStateMissing):
            other.by_name(codec.name)


def test_names() -> None:
    assert words_a_token("words8") == words_a_token("words8@0123abcd") == 8
    assert [words_a_token(name) for name in ("words", "words0", "sq8", "words8@", "words1000")] == [None] * 5
