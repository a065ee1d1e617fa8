"""Matrices that eight bits hold exactly, and those that they do not, in ONNX graphs."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from compressor.fwd2bot.onnx_engine.whole_numbers import pack_whole_numbers

K, N = 256, 6


def graph(matrix: np.ndarray, uses: int = 1) -> ModelProto:
    """x @ matrix, added up `uses` times."""
    names = [f"product_{number}" for number in range(uses)]
    nodes = [
        helper.make_node("MatMul", ["x", "matrix"], [name], name=name) for name in names
    ]
    nodes.append(helper.make_node("Sum", names, ["y"]))
    rows = ["B", "T"]
    float32 = TensorProto.FLOAT
    return helper.make_model(
        helper.make_graph(
            nodes,
            "products",
            [helper.make_tensor_value_info("x", float32, [*rows, matrix.shape[0]])],
            [helper.make_tensor_value_info("y", float32, [*rows, matrix.shape[1]])],
            [numpy_helper.from_array(matrix, "matrix")],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=10,
    )


def computed(model: ModelProto, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (y,) = session.run(None, {"x": x})
    return y


def whole_numbers(low: int, high: int, *, inputs: int = K) -> np.ndarray:
    """A matrix as a checkpoint in int8 gives it, with codes from `low` to `high`."""
    draw = np.random.default_rng(7)
    codes = draw.integers(low, high + 1, (inputs, N)).astype(np.float32)
    return codes * (draw.random(N, dtype=np.float32) * 0.01 + 1e-4)


@pytest.mark.parametrize(
    ("low", "high"), [(-127, 127), (-128, 127), (-200, 55), (-3, 252), (0, 255), (0, 0)]
)
def test_whole_numbers_are_packed_and_read_as_the_same_numbers(
    low: int, high: int
) -> None:
    matrix = whole_numbers(low, high)
    matrix[:, 2] = 0
    matrix[:, 3] = 0.25
    model = graph(matrix)
    plain = model.SerializeToString()
    assert pack_whole_numbers(model) == 1
    assert len(model.SerializeToString()) < len(plain) / 2.5
    # Each row of the identity picks a row of the matrix, and adds nothing to it but zeros.
    rows = np.eye(K, dtype=np.float32)[None]
    np.testing.assert_array_equal(computed(model, rows)[0], matrix)
    # Inputs that are not rounded: of one to a million.
    x = np.logspace(0, 6, 3 * K, dtype=np.float32).reshape(1, 3, K)
    np.testing.assert_allclose(
        computed(model, x), computed(graph(matrix), x), rtol=1e-5, atol=1
    )


def test_a_matrix_that_two_products_share_is_packed_for_both() -> None:
    matrix = whole_numbers(-127, 127)
    model = graph(matrix, uses=2)
    assert pack_whole_numbers(model) == 2
    assert "matrix" not in {each.name for each in model.graph.initializer}
    rows = np.eye(K, dtype=np.float32)[None]
    np.testing.assert_array_equal(computed(model, rows)[0], 2 * matrix)


def changed(matrix: np.ndarray) -> np.ndarray:
    """The least change of one number."""
    matrix[5, 1] = np.nextafter(matrix[5, 1], np.float32(1))
    return matrix


@pytest.mark.parametrize(
    "matrix",
    [
        np.random.default_rng(1).normal(size=(K, N)).astype(np.float32),
        changed(whole_numbers(-127, 127)),
        whole_numbers(-200, 200),
        whole_numbers(-300, -100),
        whole_numbers(-127, 127, inputs=100),
        whole_numbers(-127, 127).astype(np.float64),
    ],
    ids=[
        "any numbers",
        "one is not whole",
        "nine bits",
        "far from 0",
        "inputs",
        "type",
    ],
)
def test_other_matrices_stay_as_they_are(matrix: np.ndarray) -> None:
    model = graph(matrix)
    before = model.SerializeToString()
    assert pack_whole_numbers(model) == 0
    assert model.SerializeToString() == before
