"""Training of codecs: names, sizes, and that more bytes lose less."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from index.codecs.registry import CodecRegistry
from index.codecs.scalar import HalfCodec
from index.codecs.train import (
    MIN_SAMPLE,
    factory_string,
    share_lost,
    train_codec,
    train_on_images,
    write_state,
)
from index.errors import InvalidTokens, UnknownEngine

D = 16


@pytest.fixture(scope="module")
def sample() -> np.ndarray:
    """Tokens whose values hang together, as those of a model do."""
    random = np.random.default_rng(0)
    return (random.normal(size=(MIN_SAMPLE, 6)) @ random.normal(size=(6, D))).astype(np.float32)


@pytest.mark.parametrize("kind", ["pq4", "rq2", pytest.param("opq4", marks=pytest.mark.long)])
def test_a_trained_codec_has_the_bytes_of_its_name(
    kind: str, sample: np.ndarray, tmp_path: Path
) -> None:
    codec = train_codec(kind, sample)
    tokens = sample[:30].reshape(10, 3, D)
    coded = codec.encode(tokens)
    assert {len(data) for data in coded} == {3 * int(kind[-1])}
    decoded = np.stack([codec.decode(data, 3, D) for data in coded])
    assert np.mean((decoded - tokens) ** 2) < 0.4 * np.mean(tokens**2)
    write_state(codec, tmp_path / "state.faiss")
    again = CodecRegistry(tmp_path / "codecs").choose(kind, tmp_path / "state.faiss")
    assert again.name == codec.name
    assert again.encode(tokens) == coded


def test_more_bytes_lose_less(sample: np.ndarray) -> None:
    tokens = sample[:300].reshape(100, 3, D)
    errors = []
    for kind in ("pq2", "pq4", "pq8"):
        codec = train_codec(kind, sample)
        decoded = np.stack([codec.decode(data, 3, D) for data in codec.encode(tokens)])
        errors.append(float(np.mean((decoded - tokens) ** 2)))
    assert errors == sorted(errors, reverse=True)


def test_names_that_make_no_codec() -> None:
    for kind in ("pq", "pq0", "zip4", "pq5", "PQ4", "", "pq4@00000000"):
        with pytest.raises(UnknownEngine):
            factory_string(kind, D)
    assert factory_string("rq5", D) == "RQ5x8"


def test_a_sample_too_small_is_refused(sample: np.ndarray) -> None:
    for tokens in (sample[:-1], sample[0], np.full_like(sample, np.nan)):
        with pytest.raises(InvalidTokens):
            train_codec("pq4", tokens)


def test_the_loss_is_that_of_images_not_trained_on(sample: np.ndarray) -> None:
    unseen = sample[: 2 * 624].reshape(624, 2, D)[::-1]
    tokens = np.concatenate([sample.reshape(-1, 2, D), unseen[:554]])
    codec, lost = train_on_images("pq4", tokens)
    assert (
        codec.state
        == train_codec("pq4", tokens[: len(tokens) - len(tokens) // 10].reshape(-1, D)).state
    )
    assert lost == share_lost(codec, tokens[-554:])
    assert 0 < lost < 0.4


def test_half_precision_loses_next_to_nothing_and_equal_tokens_nothing() -> None:
    tokens = np.random.default_rng(0).normal(size=(4, 2, D)).astype(np.float32)
    assert share_lost(HalfCodec(), tokens) < 1e-6
    assert share_lost(HalfCodec(), np.ones_like(tokens)) == 0
