"""Vectors in eight bits: how far off they are, and that writing again what was read changes
nothing.
"""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from index.vectors.arithmetic import from_int8, round_to_int8, to_int8
from tests.index.samples import unit_vectors

values = st.floats(-65504, 65504, width=32).filter(lambda value: value == 0 or abs(value) > 1e-30)
vectors = arrays(np.float32, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=values)


@given(vectors)
def test_a_component_is_off_by_half_a_step_at_most(some: np.ndarray) -> None:
    step = np.abs(some).max(axis=1, keepdims=True) / 127
    assert (np.abs(round_to_int8(some) - some) <= 0.505 * step).all()


@given(vectors)
def test_what_was_read_is_written_the_same(some: np.ndarray) -> None:
    codes, scales = to_int8(some)
    again, scales_again = to_int8(from_int8(codes, scales))
    assert np.array_equal(codes, again)
    assert np.array_equal(scales, scales_again)


def test_cosines_hardly_move() -> None:
    some = unit_vectors(1, 200, 256)
    kept = round_to_int8(some)
    kept /= np.linalg.norm(kept, axis=1, keepdims=True)
    assert np.abs(kept @ kept.T - some @ some.T).max() < 0.005


def test_nothing_and_zero() -> None:
    assert round_to_int8(np.empty((0, 4), dtype=np.float32)).shape == (0, 4)
    assert np.array_equal(
        round_to_int8(np.zeros((2, 4), dtype=np.float32)), np.zeros((2, 4), dtype=np.float32)
    )
