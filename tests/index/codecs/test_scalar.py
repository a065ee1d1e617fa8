"""Token codecs: what comes back, what is refused, what a name says."""

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


def trained_state(factory: str, seed: int = 0) -> bytes:
    """A FAISS codec trained on made-up tokens of D values."""
    index = faiss.index_factory(D, factory)
    index.train(np.random.default_rng(seed).normal(size=(1000, D)).astype(np.float32))
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
    return [make() for make in SELF_CONTAINED.values()] + [
        TrainedCodec(kind, state) for kind, state in states.items()
    ]


def floats(largest: float) -> st.SearchStrategy[float]:
    return st.floats(-largest, largest, width=32)


tokens_of = lambda largest: arrays(  # noqa: E731 - a strategy by the size of its values
    np.float32, array_shapes(min_dims=3, max_dims=3, max_side=9), elements=floats(largest)
)


@given(
    arrays(
        np.float16,
        array_shapes(min_dims=3, max_dims=3, max_side=9),
        elements=st.floats(-65504, 65504, width=16),
    )
)
def test_fp16_is_exact_for_half_precision(tokens: np.ndarray) -> None:
    codec = HalfCodec()
    for image, data in zip(tokens, codec.encode(tokens.astype(np.float32)), strict=True):
        assert np.array_equal(codec.decode(data, *image.shape), image.astype(np.float32))


@pytest.mark.parametrize("bits", [4, 8])
@given(data=st.data())
def test_a_scalar_code_is_off_by_half_a_step_at_most(bits: int, data: st.DataObject) -> None:
    tokens = data.draw(tokens_of(2.0**99))
    codec = ScalarCodec(bits)
    for image, code in zip(tokens, codec.encode(tokens), strict=True):
        decoded = codec.decode(code, *image.shape)
        span = image.max(axis=1, keepdims=True) - image.min(axis=1, keepdims=True)
        rounding = (
            4 * np.finfo(np.float32).eps * np.abs(image).max(axis=1, keepdims=True)
            + np.finfo(np.float32).tiny
        )
        assert (np.abs(decoded - image) <= span / (2**bits - 2) * 0.501 + rounding).all()


@pytest.mark.parametrize("bits", [4, 8])
@given(data=st.data())
def test_writing_again_what_was_read_loses_no_more(bits: int, data: st.DataObject) -> None:
    """However often a library is recoded to and fro."""
    # Whole numbers: with ranges near float32's own precision, a step is no longer one.
    tokens = data.draw(arrays(np.float32, (1, 2, 9), elements=st.integers(-1000, 1000).map(float)))
    codec = ScalarCodec(bits)
    (once,) = codec.encode(tokens)
    (again,) = codec.encode(codec.decode(once, 2, 9)[None])
    half = len(once) // 2
    assert [again[8:half], again[half + 8 :]] == [once[8:half], once[half + 8 :]]
    assert np.allclose(codec.decode(again, 2, 9), codec.decode(once, 2, 9), atol=1e-3)


@pytest.mark.parametrize("bits", [4, 8])
def test_the_length_of_a_scalar_code(bits: int) -> None:
    (data,) = ScalarCodec(bits).encode(np.zeros((1, 8, 576), dtype=np.float32))
    assert len(data) == 8 * (8 + 576 * bits // 8)


def test_every_codec_gives_back_the_shape_and_is_deterministic(codecs: list[TokenCodec]) -> None:
    tokens = np.random.default_rng(1).normal(size=(5, 3, D)).astype(np.float32)
    for codec in codecs:
        first, again = codec.encode(tokens), codec.encode(tokens)
        assert first == again
        assert first == [codec.encode(image[None])[0] for image in tokens]
        assert len({len(data) for data in first}) == 1
        decoded = codec.decode(first[2], 3, D)
        assert decoded.shape == (3, D)
        assert decoded.dtype == np.float32
        # Better than knowing nothing: the tokens have variance 1.
        assert np.mean((decoded - tokens[2]) ** 2) < 0.9
        assert codec.encode(tokens[:0]) == []


def test_every_codec_refuses_what_it_cannot_hold(codecs: list[TokenCodec]) -> None:
    for codec in codecs:
        for bad in (np.nan, np.inf):
            tokens = np.zeros((2, 3, D), dtype=np.float32)
            tokens[1, 2, 5] = bad
            with pytest.raises(InvalidTokens):
                codec.encode(tokens)
        with pytest.raises(InvalidTokens):
            codec.encode(np.zeros((3, D), dtype=np.float32))
        (data,) = codec.encode(np.ones((1, 3, D), dtype=np.float32))
        for wrong in (data[:-1], data + b"\0", b""):
            with pytest.raises(InvalidTokens):
                codec.decode(wrong, 3, D)


def test_values_beyond_the_range_are_refused_not_made_infinite() -> None:
    with pytest.raises(InvalidTokens):
        HalfCodec().encode(np.full((1, 1, 4), 70000, dtype=np.float32))
    largest = np.finfo(np.float32).max
    with pytest.raises(InvalidTokens):
        ScalarCodec(8).encode(np.array([[[-largest, largest]]], dtype=np.float32))


def test_a_trained_codec_knows_its_dimension(states: dict[str, bytes]) -> None:
    with pytest.raises(CodecStateDamaged):
        TrainedCodec("pq4", states["pq4"]).encode(np.zeros((1, 3, D + 1), dtype=np.float32))


def test_state_that_is_no_state_is_refused(states: dict[str, bytes]) -> None:
    for state in (b"", b"not a state", states["pq4"][:100]):
        with pytest.raises(CodecStateDamaged):
            TrainedCodec("pq4", state)
    with pytest.raises(CodecStateDamaged):
        TrainedCodec("pq4", faiss.serialize_index(faiss.index_factory(D, "PQ4x4")).tobytes())


def test_the_name_says_the_state(states: dict[str, bytes]) -> None:
    one, other = states["pq4"], trained_state("PQ4x4np", seed=1)
    assert TrainedCodec("pq4", one).name == f"pq4@{state_hash(one)}"
    assert TrainedCodec("pq4", one).name != TrainedCodec("pq4", other).name


def test_threads_share_a_codec() -> None:
    codec = ScalarCodec(8)
    tokens = [
        np.random.default_rng(n).normal(size=(20, 4, 10 + n)).astype(np.float32) for n in range(8)
    ]
    expected = [ScalarCodec(8).encode(some) for some in tokens]
    got: list[list[bytes]] = [[] for _ in tokens]

    def work(n: int) -> None:
        got[n] = codec.encode(tokens[n])

    run_threads(8, work)
    assert got == expected


def test_the_shelf_keeps_the_state_it_wrote_with(tmp_path: Path, states: dict[str, bytes]) -> None:
    state = tmp_path / "shipped.faiss"
    state.write_bytes(states["pq4"])
    tokens = np.ones((1, 3, D), dtype=np.float32)
    codec = CodecRegistry(tmp_path / "codecs").choose("pq4", state)
    (data,) = codec.encode(tokens)
    state.unlink()
    again = CodecRegistry(tmp_path / "codecs").by_name(codec.name)
    assert np.array_equal(again.decode(data, 3, D), codec.decode(data, 3, D))


def test_the_shelf_tells_missing_from_damaged_state(
    tmp_path: Path, states: dict[str, bytes]
) -> None:
    shelf = CodecRegistry(tmp_path / "codecs")
    for name in ("pq4", "pq4@00000000", "../pq4", "", ".x"):
        with pytest.raises(CodecStateMissing):
            shelf.by_name(name)
    with pytest.raises(CodecStateMissing):
        shelf.choose("pq4", tmp_path / "nowhere.faiss")
    (tmp_path / "codecs").mkdir()
    name = f"pq4@{state_hash(states['pq4'])}"
    (tmp_path / "codecs" / f"{name}.faiss").write_bytes(states["rq4"])
    with pytest.raises(CodecStateDamaged):
        shelf.by_name(name)
