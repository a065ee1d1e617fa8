"""Token codecs: what comes back, what is refused, what a name contains."""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from index.codecs.registry import CodecRegistry
from index.codecs.scalar import (
    SELF_CONTAINED,
    HalfCodec,
    ScalarCodec,
    TokenCodec,
    TrainedCodec,
    state_hash,
)
from index.errors import CodecStateDamaged, CodecStateMissing, InvalidTokens
from tests.threads import run_threads

D = 16
FLOAT32 = np.finfo(np.float32)
SHAPES = array_shapes(min_dims=3, max_dims=3, max_side=9)


def random_tokens(seed: int, *shape: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.normal(size=shape).astype(np.float32)


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, dtype=np.float32)


def trained_state(factory: str, seed: int = 0) -> bytes:
    """A FAISS codec trained on made-up tokens of D values."""
    index = faiss.index_factory(D, factory)
    index.train(random_tokens(seed, 1000, D))
    return faiss.serialize_index(index).tobytes()


@pytest.fixture(scope="module")
def states() -> dict[str, bytes]:
    factories = {
        "pq4": "PQ4x4np",
        "opq4": "OPQ4,PQ4x4np",
        "rq4": "RQ4x4",
        "rrsq4": "RR16,SQ4",
        "sq8t": "SQ8",
    }
    return {kind: trained_state(factory) for kind, factory in factories.items()}


@pytest.fixture
def codecs(states: dict[str, bytes]) -> list[TokenCodec]:
    self_contained = [make() for make in SELF_CONTAINED.values()]
    trained = [TrainedCodec(kind, state) for kind, state in states.items()]
    return [*self_contained, *trained]


half_tokens = arrays(np.float16, SHAPES, elements=st.floats(-65504, 65504, width=16))
wide_tokens = arrays(
    np.float32, SHAPES, elements=st.floats(-(2.0**99), 2.0**99, width=32)
)
whole_numbers = arrays(
    np.float32, (1, 2, 9), elements=st.integers(-1000, 1000).map(float)
)


@given(half_tokens)
def test_fp16_is_exact_for_half_precision(halves: np.ndarray) -> None:
    codec = HalfCodec()
    tokens = halves.astype(np.float32)
    for image, data in zip(tokens, codec.encode(tokens), strict=True):
        decoded = codec.decode(data, *image.shape)
        assert np.array_equal(decoded, image)


@pytest.mark.parametrize("bits", [4, 8])
@given(tokens=wide_tokens)
def test_a_scalar_code_is_off_by_half_a_step_at_most(
    bits: int, tokens: np.ndarray
) -> None:
    codec = ScalarCodec(bits)
    for image, data in zip(tokens, codec.encode(tokens), strict=True):
        decoded = codec.decode(data, *image.shape)
        span = np.ptp(image, axis=1, keepdims=True)
        step = span / (2**bits - 2)
        largest = np.abs(image).max(axis=1, keepdims=True)
        rounding = 4 * FLOAT32.eps * largest + FLOAT32.tiny
        errors = np.abs(decoded - image)
        assert (errors <= 0.501 * step + rounding).all()


@pytest.mark.parametrize("bits", [4, 8])
@given(
    tokens=whole_numbers
)  # with ranges near float32's own precision, a step is no longer one
def test_encoding_again_what_was_decoded_loses_no_more(
    bits: int, tokens: np.ndarray
) -> None:
    """However often a library is recoded to and fro."""
    codec = ScalarCodec(bits)
    (once,) = codec.encode(tokens)
    decoded = codec.decode(once, 2, 9)
    (again,) = codec.encode(decoded[None])
    half = len(once) // 2
    assert again[8:half] == once[8:half]
    assert again[half + 8 :] == once[half + 8 :]
    assert np.allclose(codec.decode(again, 2, 9), decoded, atol=1e-3)


@pytest.mark.parametrize("bits", [4, 8])
def test_the_length_of_a_scalar_code(bits: int) -> None:
    (data,) = ScalarCodec(bits).encode(zeros(1, 8, 576))
    assert len(data) == 8 * (8 + 576 * bits // 8)


def test_every_codec_gives_back_the_shape_and_is_deterministic(
    codecs: list[TokenCodec],
) -> None:
    tokens = random_tokens(1, 5, 3, D)
    for codec in codecs:
        encoded = codec.encode(tokens)
        assert codec.encode(tokens) == encoded
        for image, data in zip(tokens, encoded, strict=True):
            assert codec.encode(image[None]) == [data]
        assert len(set(map(len, encoded))) == 1
        decoded = codec.decode(encoded[2], 3, D)
        assert decoded.shape == (3, D)
        assert decoded.dtype == np.float32
        # Better than knowing nothing: the tokens have variance 1.
        errors = decoded - tokens[2]
        assert np.mean(errors**2) < 0.9
        assert codec.encode(tokens[:0]) == []


def test_every_codec_refuses_tokens_it_cannot_hold(codecs: list[TokenCodec]) -> None:
    for codec in codecs:
        for value in (np.nan, np.inf):
            tokens = zeros(2, 3, D)
            tokens[1, 2, 5] = value
            with pytest.raises(InvalidTokens):
                codec.encode(tokens)
        with pytest.raises(InvalidTokens):
            codec.encode(zeros(3, D))


def test_every_codec_refuses_bytes_of_the_wrong_length(
    codecs: list[TokenCodec],
) -> None:
    for codec in codecs:
        (data,) = codec.encode(np.ones((1, 3, D), dtype=np.float32))
        for wrong in (data[:-1], data + b"\0", b""):
            with pytest.raises(InvalidTokens):
                codec.decode(wrong, 3, D)


def test_values_beyond_the_range_are_refused_not_made_infinite() -> None:
    beyond_half = np.full((1, 1, 4), 70000, dtype=np.float32)
    with pytest.raises(InvalidTokens):
        HalfCodec().encode(beyond_half)
    widest = np.array([[[-FLOAT32.max, FLOAT32.max]]], dtype=np.float32)
    with pytest.raises(InvalidTokens):
        ScalarCodec(8).encode(widest)


def test_a_trained_codec_knows_its_dimension(states: dict[str, bytes]) -> None:
    codec = TrainedCodec("pq4", states["pq4"])
    with pytest.raises(CodecStateDamaged):
        codec.encode(zeros(1, 3, D + 1))


def test_state_that_is_no_state_is_refused(states: dict[str, bytes]) -> None:
    untrained = faiss.index_factory(D, "PQ4x4")
    untrained_state = faiss.serialize_index(untrained).tobytes()
    for state in (b"", b"not a state", states["pq4"][:100], untrained_state):
        with pytest.raises(CodecStateDamaged):
            TrainedCodec("pq4", state)


def test_the_name_contains_the_hash_of_the_state(states: dict[str, bytes]) -> None:
    state = states["pq4"]
    other_state = trained_state("PQ4x4np", seed=1)
    name = TrainedCodec("pq4", state).name
    assert name == f"pq4@{state_hash(state)}"
    assert name != TrainedCodec("pq4", other_state).name


def test_threads_share_a_codec() -> None:
    codec = ScalarCodec(8)
    tokens = [random_tokens(n, 20, 4, 10 + n) for n in range(8)]
    expected = [ScalarCodec(8).encode(of_thread) for of_thread in tokens]
    encoded: list[list[bytes]] = [[] for _ in tokens]

    def work(n: int) -> None:
        encoded[n] = codec.encode(tokens[n])

    run_threads(8, work)
    assert encoded == expected


def test_the_registry_keeps_the_state_it_wrote_with(
    tmp_path: Path, states: dict[str, bytes]
) -> None:
    state = tmp_path / "shipped.faiss"
    state.write_bytes(states["pq4"])
    codec = CodecRegistry(tmp_path / "codecs").choose("pq4", state)
    (data,) = codec.encode(np.ones((1, 3, D), dtype=np.float32))
    state.unlink()
    again = CodecRegistry(tmp_path / "codecs").by_name(codec.name)
    expected = codec.decode(data, 3, D)
    assert np.array_equal(again.decode(data, 3, D), expected)


def test_the_registry_tells_missing_from_damaged_state(
    tmp_path: Path, states: dict[str, bytes]
) -> None:
    folder = tmp_path / "codecs"
    registry = CodecRegistry(folder)
    for name in ("pq4", "pq4@00000000", "../pq4", "", ".x"):
        with pytest.raises(CodecStateMissing):
            registry.by_name(name)
    with pytest.raises(CodecStateMissing):
        registry.choose("pq4", tmp_path / "nowhere.faiss")
    folder.mkdir()
    name = f"pq4@{state_hash(states['pq4'])}"
    (folder / f"{name}.faiss").write_bytes(states["rq4"])
    with pytest.raises(CodecStateDamaged):
        registry.by_name(name)
