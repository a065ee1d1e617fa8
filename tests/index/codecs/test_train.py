"""Training of codecs: names, sizes, and that more bytes lose less."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from index.codecs.registry import CodecRegistry
from index.codecs.scalar import HalfCodec, TokenCodec
from index.codecs.train import (
    MIN_SAMPLE,
    factory_string,
    share_lost,
    train_codec,
    train_on_images,
    write_state,
)
from index.errors import InvalidTokens, UnknownEngine
from tests.index.codecs.test_scalar import random_tokens

D = 16


@pytest.fixture(scope="module")
def sample() -> np.ndarray:
    """Tokens whose values hang together, as those of a model do."""
    random = np.random.default_rng(0)
    causes = random.normal(size=(MIN_SAMPLE, 6))
    effects = random.normal(size=(6, D))
    tokens = causes @ effects
    return tokens.astype(np.float32)


def squared_error(codec: TokenCodec, tokens: np.ndarray) -> float:
    """The mean over tokens (B, 3, D), encoded and decoded."""
    decoded = [codec.decode(data, 3, D) for data in codec.encode(tokens)]
    errors = np.stack(decoded) - tokens
    return float(np.square(errors).mean())


@pytest.mark.parametrize(
    "kind", ["pq4", "rq2", pytest.param("opq4", marks=pytest.mark.long)]
)
def test_a_trained_codec_has_the_bytes_of_its_name(
    kind: str, sample: np.ndarray, tmp_path: Path
) -> None:
    codec = train_codec(kind, sample)
    tokens = sample[:30].reshape(10, 3, D)
    encoded = codec.encode(tokens)
    bytes_per_token = int(kind[-1])
    assert {len(data) for data in encoded} == {3 * bytes_per_token}
    assert squared_error(codec, tokens) < 0.4 * np.square(tokens).mean()
    state = tmp_path / "state.faiss"
    write_state(codec, state)
    again = CodecRegistry(tmp_path / "codecs").choose(kind, state)
    assert again.name == codec.name
    assert again.encode(tokens) == encoded


def test_more_bytes_lose_less(sample: np.ndarray) -> None:
    tokens = sample[:300].reshape(100, 3, D)
    errors = []
    for kind in ("pq2", "pq4", "pq8"):
        codec = train_codec(kind, sample)
        errors.append(squared_error(codec, tokens))
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
    images = sample.reshape(-1, 2, D)
    others = images[:624][::-1]
    tokens = np.concatenate([images, others[:554]])
    codec, lost = train_on_images("pq4", tokens)
    held_out = len(tokens) // 10
    assert held_out == 554
    trained_on = tokens[:-held_out].reshape(-1, D)
    assert codec.state == train_codec("pq4", trained_on).state
    assert lost == share_lost(codec, tokens[-held_out:])
    assert 0 < lost < 0.4


def test_half_precision_loses_next_to_nothing_and_equal_tokens_nothing() -> None:
    codec = HalfCodec()
    tokens = random_tokens(0, 4, 2, D)
    assert share_lost(codec, tokens) < 1e-6
    assert share_lost(codec, np.ones_like(tokens)) == 0
