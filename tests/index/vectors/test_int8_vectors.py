"""Rounding to int8: how far off it is, and that encoding again what was decoded changes nothing."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from index.vectors.arithmetic import from_int8, round_to_int8, to_int8
from tests.index.samples import unit_vectors

finite = st.floats(-65504, 65504, width=32)
values = finite.filter(lambda value: value == 0 or abs(value) > 1e-30)
shapes = array_shapes(min_dims=2, max_dims=2, max_side=9)
arrays_of_vectors = arrays(np.float32, shapes, elements=values)


@given(arrays_of_vectors)
def test_a_component_is_off_by_half_a_step_at_most(vectors: np.ndarray) -> None:
    largest = np.abs(vectors).max(axis=1, keepdims=True)
    step = largest / 127
    errors = np.abs(round_to_int8(vectors) - vectors)
    assert (errors <= 0.505 * step).all()


@given(arrays_of_vectors)
def test_what_was_decoded_is_encoded_the_same(vectors: np.ndarray) -> None:
    codes, scales = to_int8(vectors)
    decoded = from_int8(codes, scales)
    codes_again, scales_again = to_int8(decoded)
    assert np.array_equal(codes, codes_again)
    assert np.array_equal(scales, scales_again)


def test_cosines_hardly_move() -> None:
    vectors = unit_vectors(1, 200, 256)
    rounded = round_to_int8(vectors)
    rounded /= np.linalg.norm(rounded, axis=1, keepdims=True)
    cosines = vectors @ vectors.T
    rounded_cosines = rounded @ rounded.T
    assert np.abs(rounded_cosines - cosines).max() < 0.005


def test_nothing_and_zero() -> None:
    nothing = np.empty((0, 4), dtype=np.float32)
    assert round_to_int8(nothing).shape == (0, 4)
    zeros = np.zeros((2, 4), dtype=np.float32)
    assert np.array_equal(round_to_int8(zeros), zeros)
