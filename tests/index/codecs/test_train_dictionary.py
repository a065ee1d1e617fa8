"""Training of dictionaries: the words that tokens need, those that must be there, and directions
for the rest.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from index.codecs.dictionary import Dictionary, MixtureCodec
from index.codecs.train import Vocabulary, share_lost, train_mixture, train_on_images
from index.errors import InvalidTokens
from tests.index.codecs.mixtures import D, mixtures, texts, vocabulary, word_vectors


def trained(codec: MixtureCodec) -> Dictionary:
    return Dictionary.from_bytes(codec.state)


def test_the_dictionary_has_the_words_that_tokens_need() -> None:
    tokens, _ = mixtures(4, images=60, of=100)
    codec = train_mixture(8, tokens, vocabulary())
    words = set(trained(codec).texts)
    assert words.issuperset(texts()[:100])
    assert len(words) < 3000


def test_directions_help_where_words_do_not() -> None:
    random = np.random.default_rng(3)
    plain, _ = mixtures(3, images=200, tokens=3, of=200)
    causes = random.normal(size=(200, 1, 8))
    effects = random.normal(size=(8, D))
    dense = (causes @ effects).astype(np.float32)
    tokens = np.concatenate([plain, dense], axis=1)
    codec = train_mixture(8, tokens[:180], vocabulary())
    dictionary = trained(codec)
    words = len(dictionary.texts)
    assert len(dictionary.vectors) > words
    without_directions = Dictionary(dictionary.vectors[:words], dictionary.texts)
    words_only = MixtureCodec(8, without_directions.to_bytes())
    held_out = tokens[180:]
    assert share_lost(codec, held_out) < 0.7 * share_lost(words_only, held_out)


def test_the_same_sample_gives_the_same_dictionary() -> None:
    tokens, _ = mixtures(4, images=30)
    first = train_mixture(8, tokens, vocabulary())
    second = train_mixture(8, tokens, vocabulary())
    assert first.state == second.state


def test_a_mixture_is_trained_by_its_name_and_with_a_vocabulary() -> None:
    tokens, _ = mixtures(4, images=50, of=100)
    codec, share = train_on_images("mix8", tokens, vocabulary())
    assert codec.name.startswith("mix8@")
    assert 0 < share < 0.1
    with pytest.raises(InvalidTokens):
        train_on_images("mix8", tokens)
    with pytest.raises(InvalidTokens):
        train_mixture(8, tokens[..., :-1], vocabulary())


def test_a_vocabulary_is_read_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "vocabulary.npz"
    text = "\0".join(texts())
    joined = np.frombuffer(text.encode(), dtype=np.uint8)
    whole = {
        "vectors": word_vectors(),
        "texts": joined,
    }
    np.savez(path, **whole)
    assert Vocabulary.read(path).texts == texts()
    changes = (
        {"texts": joined[:-20]},
        {"vectors": word_vectors()[0]},
    )
    for change in changes:
        np.savez(path, **{**whole, **change})
        with pytest.raises(InvalidTokens):
            Vocabulary.read(path)
    for data in (b"", b"no archive"):
        path.write_bytes(data)
        with pytest.raises(InvalidTokens):
            Vocabulary.read(path)
