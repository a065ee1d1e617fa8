"""The mixture codec: finds the words of a mixture, names them, shares bytes out by need."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from index.codecs.dictionary import Dictionary, MixtureCodec, words_per_token
from index.codecs.registry import CodecRegistry, read_trained
from index.errors import CodecStateDamaged, CodecStateMissing, InvalidTokens
from tests.index.codecs.mixtures import D, dictionary, mixtures, texts, word_vectors

STATE = dictionary().to_bytes()


def codec_of(words: int) -> MixtureCodec:
    return MixtureCodec(words, STATE)


def energies(tokens: np.ndarray) -> np.ndarray:
    """The squared length of each token."""
    return np.square(tokens).sum(axis=-1)


def lost(codec: MixtureCodec, tokens: np.ndarray) -> np.ndarray:
    """The squared error of each token (B, K), relative to its own square."""
    _, count, dim = tokens.shape
    decoded = [codec.decode(data, count, dim) for data in codec.encode(tokens)]
    return energies(np.stack(decoded) - tokens) / energies(tokens)


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, dtype=np.float32)


def one_image(vectors: np.ndarray) -> np.ndarray:
    """The vectors as the tokens of one image."""
    return vectors[None].astype(np.float32)


def test_a_single_word_comes_back_named() -> None:
    codec = codec_of(4)
    tokens = one_image(word_vectors()[[5, 2999, 0]])
    (data,) = codec.encode(tokens)
    heaviest = [words[0] for words in codec.words(data, 3)]
    assert [word.text for word in heaviest] == [" word 5", " word 2999", " word 0"]
    assert [word.weight for word in heaviest] == pytest.approx([1, 1, 1], abs=0.01)
    assert np.allclose(codec.decode(data, 3, D), tokens[0], atol=0.05)


def test_the_heaviest_words_of_a_mixture_are_found() -> None:
    tokens, numbers = mixtures(3)
    codec = codec_of(6)
    words_of_tokens = []
    for data in codec.encode(tokens):
        words_of_tokens += codec.words(data, 5)
    hits = []
    for words, of_token in zip(words_of_tokens, numbers, strict=True):
        two_heaviest = {texts()[number] for number in of_token[:2]}
        hits.append(words[0].text in two_heaviest)
        weights = [abs(word.weight) for word in words]
        assert max(weights) <= weights[0] + 1e-6
    assert np.mean(hits) > 0.8


def test_more_words_lose_less() -> None:
    tokens, _ = mixtures(12)
    errors = []
    for words in (1, 2, 4, 8, 16):
        shares = lost(codec_of(words), tokens)
        errors.append(float(shares.mean()))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.05


def test_the_token_that_needs_more_words_gets_them() -> None:
    """Seven tokens of one word and one of thirty: eight words on average are enough for all."""
    simple, _ = mixtures(1, images=2, tokens=7)
    rich, _ = mixtures(30, seed=2, images=2, tokens=1)
    tokens = np.concatenate([simple, rich], axis=1)
    codec = codec_of(8)
    for data in codec.encode(tokens):
        counts = [len(numbers) for numbers, _ in codec.read(data, 8)]
        assert counts[7] > 30
        assert sum(counts) <= 64
    assert lost(codec, tokens)[:, 7].max() < 0.1


@pytest.mark.parametrize("words", [1, 5, 8, 13])
def test_an_image_has_at_most_its_words(words: int) -> None:
    random = np.random.default_rng(0)
    tokens = random.normal(size=(2, 4, D))
    encoded = codec_of(words).encode(tokens.astype(np.float32))
    assert max(map(len, encoded)) <= 4 * (3 + 3 * words)


def test_an_image_is_encoded_alike_alone_and_in_a_batch() -> None:
    tokens, _ = mixtures(6, images=40)
    codec = codec_of(8)
    together = codec.encode(tokens)
    assert together == codec.encode(tokens)
    for number in range(0, 40, 13):
        # Sums in another order may differ in their last bits, and with them a choice between two
        # that are as good.
        (alone,) = codec.encode(tokens[number : number + 1])
        decoded = codec.decode(alone, 5, D)
        expected = codec.decode(together[number], 5, D)
        assert np.allclose(decoded, expected, atol=0.1)


@settings(max_examples=30)
@given(arrays(np.float32, (1, 2, D), elements=st.floats(-100, 100, width=32)))
def test_any_tokens_come_back_no_worse_than_nothing(tokens: np.ndarray) -> None:
    codec = codec_of(3)
    (data,) = codec.encode(tokens)
    decoded = codec.decode(data, 2, D)
    errors = energies(decoded - tokens[0])
    assert (errors <= 1.001 * energies(tokens[0]) + 1e-6).all()


def test_zero_tokens_and_no_images() -> None:
    codec = codec_of(3)
    (data,) = codec.encode(zeros(1, 2, D))
    assert len(data) == 6
    assert np.array_equal(codec.decode(data, 2, D), zeros(2, D))
    assert codec.words(data, 2) == [[], []]
    assert codec.encode(zeros(0, 2, D)) == []


def test_directions_are_kept_but_have_no_words() -> None:
    atoms = np.eye(4, dtype=np.float16)
    two_words = Dictionary(atoms, (" one", " two"))
    codec = MixtureCodec(2, two_words.to_bytes())
    token = [0, 3, 0, 5]
    (data,) = codec.encode(np.array([[token]], dtype=np.float32))
    (words,) = codec.words(data, 1)
    assert [word.text for word in words] == [" two"]
    assert np.allclose(codec.decode(data, 1, 4), [token], atol=0.03)


def test_refuses_tokens_it_cannot_hold() -> None:
    codec = codec_of(3)
    not_a_number = np.full((1, 2, D), np.nan, dtype=np.float32)
    too_long = 1e6 * one_image(word_vectors()[:1])
    for tokens in (not_a_number, too_long):
        with pytest.raises(InvalidTokens):
            codec.encode(tokens)


def test_refuses_another_dimension() -> None:
    codec = codec_of(3)
    with pytest.raises(CodecStateDamaged):
        codec.encode(zeros(1, 2, D + 1))
    with pytest.raises(CodecStateDamaged):
        codec.decode(b"", 0, D + 1)


def test_refuses_bytes_it_did_not_write() -> None:
    codec = codec_of(3)
    (data,) = codec.encode(one_image(word_vectors()[:2]))
    infinite_weight = b"\1\0\x7e\0\0\1" + b"\0\0\0"
    damaged = [
        data[:-1],
        data + b"\0",
        b"\xff" * len(data),
        b"",
        data[:2],
        infinite_weight,
    ]
    for wrong in damaged:
        with pytest.raises(InvalidTokens):
            codec.decode(wrong, 2, D)


def test_refuses_a_dictionary_that_is_none() -> None:
    vectors = word_vectors()[:3]
    wrong = [
        Dictionary(vectors[0], ()),
        Dictionary(np.full_like(vectors, np.inf), ()),
        Dictionary(vectors[:0], ()),
        Dictionary(vectors, ("a", "b", "c", "d")),
    ]
    states = [each.to_bytes() for each in wrong]
    states += [b"", STATE[:1000], STATE[:-1], b"not a dictionary"]
    for state in states:
        with pytest.raises(CodecStateDamaged):
            MixtureCodec(1, state)
    for words in (0, 256):
        with pytest.raises(CodecStateDamaged):
            MixtureCodec(words, STATE)
    assert Dictionary.from_bytes(STATE).texts == texts()


def test_the_registry_keeps_the_dictionary(tmp_path: Path) -> None:
    shipped = tmp_path / "mix4.npz"
    shipped.write_bytes(STATE)
    codec = CodecRegistry(tmp_path / "codecs").choose("mix4", shipped)
    assert codec.name == codec_of(4).name
    tokens, _ = mixtures(3)
    shipped.unlink()
    again = CodecRegistry(tmp_path / "codecs").by_name(codec.name)
    assert again.encode(tokens) == codec_of(4).encode(tokens)
    with pytest.raises(CodecStateMissing):
        CodecRegistry(tmp_path / "elsewhere").by_name(codec.name)


def test_a_dictionary_that_was_cut_short_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "mix4.npz"
    path.write_bytes(STATE[:-9])
    with pytest.raises(CodecStateDamaged):
        read_trained("mix4", path)


def test_names() -> None:
    assert words_per_token("mix8") == 8
    assert words_per_token("mix8@0123abcd") == 8
    for other in ("mix", "mix0", "sq8", "mix8@", "mix1000"):
        assert words_per_token(other) is None
