"""The codec of soft words: finds the words of a mixture, says them, and shares its bytes out by
need.
"""

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


def lost(codec: MixtureCodec, tokens: np.ndarray) -> np.ndarray:
    """Squared error of each token (B, K), by its own square."""
    read = np.stack([codec.decode(data, *tokens.shape[1:]) for data in codec.encode(tokens)])
    return np.square(read - tokens).sum(2) / np.square(tokens).sum(2)


def test_a_single_word_comes_back_named() -> None:
    codec = codec_of(4)
    words = word_vectors()[[5, 2999, 0]].astype(np.float32)
    (data,) = codec.encode(words[None])
    assert [said[0].text for said in codec.words(data, 3)] == [" word 5", " word 2999", " word 0"]
    assert [said[0].weight for said in codec.words(data, 3)] == pytest.approx([1, 1, 1], abs=0.01)
    assert np.allclose(codec.decode(data, 3, D), words, atol=0.05)


def test_the_heaviest_words_of_a_mixture_are_found() -> None:
    tokens, numbers = mixtures(3)
    said = [words for data in codec_of(6).encode(tokens) for words in codec_of(6).words(data, 5)]
    heaviest = [words[0].text for words in said]
    assert (
        np.mean([text in {texts()[n] for n in numbers[i][:2]} for i, text in enumerate(heaviest)])
        > 0.8
    )
    assert all(abs(w.weight) <= abs(words[0].weight) + 1e-6 for words in said for w in words)


def test_more_words_say_more() -> None:
    tokens, _ = mixtures(12)
    errors = [float(lost(codec_of(words), tokens).mean()) for words in (1, 2, 4, 8, 16)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.05


def test_the_token_that_needs_more_words_gets_them() -> None:
    """Seven tokens of one word and one of thirty: on average eight words are enough for all of them."""
    simple, _ = mixtures(1, images=2, tokens=7)
    rich, _ = mixtures(30, seed=2, images=2, tokens=1)
    tokens = np.concatenate([simple, rich], axis=1)
    codec = codec_of(8)
    entries = [
        [len(numbers) for numbers, _ in codec.read(data, 8)] for data in codec.encode(tokens)
    ]
    assert all(counts[7] > 30 and sum(counts) <= 64 for counts in entries)
    assert lost(codec, tokens)[:, 7].max() < 0.1


@pytest.mark.parametrize("words", [1, 5, 8, 13])
def test_an_image_has_at_most_its_words(words: int) -> None:
    tokens = np.random.default_rng(0).normal(size=(2, 4, D)).astype(np.float32)
    assert all(len(data) <= 4 * (3 + 3 * words) for data in codec_of(words).encode(tokens))


def test_an_image_is_written_alike_alone_and_in_a_batch() -> None:
    tokens, _ = mixtures(6, images=40)
    codec = codec_of(8)
    together = codec.encode(tokens)
    assert together == codec.encode(tokens)
    for image, data in zip(tokens[::13], together[::13], strict=True):
        # Sums in another order may differ in their last bits, and with them a choice between two
        # that are as good.
        alone = codec.decode(codec.encode(image[None])[0], 5, D)
        assert np.allclose(alone, codec.decode(data, 5, D), atol=0.1)


@settings(deadline=None, max_examples=30)
@given(arrays(np.float32, (1, 2, D), elements=st.floats(-100, 100, width=32)))
def test_any_tokens_come_back_no_worse_than_nothing(tokens: np.ndarray) -> None:
    codec = codec_of(3)
    (data,) = codec.encode(tokens)
    read = codec.decode(data, 2, D)
    assert (np.square(read - tokens[0]).sum(1) <= 1.001 * np.square(tokens[0]).sum(1) + 1e-6).all()


def test_zero_tokens_and_no_images() -> None:
    codec = codec_of(3)
    (data,) = codec.encode(np.zeros((1, 2, D), dtype=np.float32))
    assert len(data) == 6
    assert np.array_equal(codec.decode(data, 2, D), np.zeros((2, D), dtype=np.float32))
    assert codec.words(data, 2) == [[], []]
    assert codec.encode(np.zeros((0, 2, D), dtype=np.float32)) == []


def test_directions_are_kept_but_not_said() -> None:
    codec = MixtureCodec(2, Dictionary(np.eye(4, dtype=np.float16), (" one", " two")).to_bytes())
    (data,) = codec.encode(np.array([[[0, 3, 0, 5]]], dtype=np.float32))
    assert [word.text for word in codec.words(data, 1)[0]] == [" two"]
    assert np.allclose(codec.decode(data, 1, 4), [[0, 3, 0, 5]], atol=0.03)


def test_refuses_what_it_cannot_hold() -> None:
    codec = codec_of(3)
    with pytest.raises(InvalidTokens):
        codec.encode(np.full((1, 2, D), np.nan, dtype=np.float32))
    with pytest.raises(InvalidTokens):
        codec.encode(word_vectors()[:1][None].astype(np.float32) * 1e6)
    for call in (
        lambda: codec.encode(np.zeros((1, 2, D + 1), np.float32)),
        lambda: codec.decode(b"", 0, D + 1),
    ):
        with pytest.raises(CodecStateDamaged):
            call()
    (data,) = codec.encode(word_vectors()[:2][None].astype(np.float32))
    for wrong in (
        data[:-1],
        data + b"\0",
        b"\xff" * len(data),
        b"",
        data[:2],
        b"\1\0\x7e\0\0\1" + b"\0\0\0",
    ):
        with pytest.raises(InvalidTokens):
            codec.decode(wrong, 2, D)


def test_refuses_a_dictionary_that_is_none() -> None:
    vectors = word_vectors()[:3]
    wrong = (
        Dictionary(vectors[0], ()),
        Dictionary(np.full_like(vectors, np.inf), ()),
        Dictionary(vectors[:0], ()),
        Dictionary(vectors, ("a", "b", "c", "d")),
    )
    for state in (
        *(each.to_bytes() for each in wrong),
        b"",
        STATE[:1000],
        STATE[:-1],
        b"not a dictionary",
    ):
        with pytest.raises(CodecStateDamaged):
            MixtureCodec(1, state)
    for words in (0, 256):
        with pytest.raises(CodecStateDamaged):
            MixtureCodec(words, STATE)
    assert Dictionary.from_bytes(STATE).texts == texts()


def test_the_shelf_keeps_the_dictionary(tmp_path: Path) -> None:
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
    with pytest.raises(CodecStateDamaged):
        read_trained("mix4", _written(tmp_path / "mix4.npz", STATE[:-9]))


def _written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_names() -> None:
    assert words_per_token("mix8") == words_per_token("mix8@0123abcd") == 8
    assert [words_per_token(name) for name in ("mix", "mix0", "sq8", "mix8@", "mix1000")] == [
        None
    ] * 5
