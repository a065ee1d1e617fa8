"""Products of an exported language model in four bits, with what adapters added beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from compressor.fwd2bot.onnx_engine.four_bits import (
    low_rank_factors,
    main,
    published_blocks,
    store_in_four_bits,
)
from tests.compressor.fwd2bot.test_whole_numbers import computed

K, N = 256, 160
DRAW = np.random.default_rng(4)


def published(inputs: int = K) -> np.ndarray:
    """A matrix as GGUF's Q4_1 has it; one block is of one number, and one of zeros."""
    codes = DRAW.integers(0, 16, (N, -(-inputs // 32), 32)).astype(np.float32)
    codes[..., 5], codes[..., 30] = 0, 15
    shape = codes.shape[:2]
    scales = DRAW.uniform(1e-3, 0.02, shape).astype(np.float16).astype(np.float32)
    least = DRAW.uniform(-0.2, 0.05, shape).astype(np.float16).astype(np.float32)
    scales[3, 1] = scales[4, 0] = least[4, 0] = 0
    blocks = codes * scales[..., None] + least[..., None]
    return np.ascontiguousarray(blocks.reshape(N, -1)[:, :inputs].T)


def adapters(rank: int) -> np.ndarray:
    down, up = DRAW.normal(size=(K, rank)), DRAW.normal(size=(rank, N))
    return (down @ up * 0.01).astype(np.float32)


def graph(*matrices: np.ndarray) -> ModelProto:
    """The sum of x @ matrix."""
    numbers = range(len(matrices))
    names = [f"product_{number}" for number in numbers]
    nodes = [
        helper.make_node(
            "MatMul", ["x", f"matrix_{each}"], [names[each]], name=names[each]
        )
        for each in numbers
    ]
    float32 = TensorProto.FLOAT
    rows = ["B", "T"]
    return helper.make_model(
        helper.make_graph(
            [*nodes, helper.make_node("Sum", names, ["y"])],
            "products",
            [helper.make_tensor_value_info("x", float32, [*rows, len(matrices[0])])],
            [helper.make_tensor_value_info("y", float32, [*rows, N])],
            [
                numpy_helper.from_array(each, f"matrix_{i}")
                for i, each in enumerate(matrices)
            ],
        ),
        opset_imports=[helper.make_opsetid("", 22)],
        ir_version=10,
    )


@pytest.mark.parametrize("rank", [0, 1, 32])
def test_products_are_the_same_but_for_rounding(rank: int) -> None:
    matrices = [published(), published()]
    merged = [each + adapters(rank) for each in matrices]
    model, plain = graph(*merged), graph(*merged)
    assert store_in_four_bits(model, graph(*matrices)) == 2
    assert len(model.SerializeToString()) < 0.6 * len(plain.SerializeToString())
    # A sum of blocks serves both products, whose values are the same.
    kinds = [node.op_type for node in model.graph.node]
    assert (kinds.count("ReduceSum"), kinds.count("MatMulNBits")) == (1, 2)
    x = DRAW.normal(size=(2, 3, K)).astype(np.float32)
    expected = x.astype(np.float64) @ sum(each.astype(np.float64) for each in merged)
    ours, theirs = (
        np.abs(computed(each, x) - expected).max() for each in (model, plain)
    )
    assert ours < 10 * theirs
    # Inputs that are not rounded: of one to a million.
    x = np.logspace(0, 6, K, dtype=np.float32).reshape(1, 1, K)
    expected = x.astype(np.float64) @ sum(each.astype(np.float64) for each in merged)
    np.testing.assert_allclose(computed(model, x), expected, rtol=1e-5, atol=10)


def test_blocks_are_read_back_exactly() -> None:
    matrix = published()
    codes, scales, least = published_blocks(matrix) or pytest.fail("no blocks")
    assert codes.max() == 15
    blocks = codes * scales[..., None] + least[..., None]
    np.testing.assert_array_equal(blocks.reshape(N, K).T, matrix)


def nudged(matrix: np.ndarray) -> np.ndarray:
    matrix[9, 7] += 1e-4
    return matrix


@pytest.mark.parametrize(
    "matrix",
    [DRAW.normal(size=(K, N)).astype(np.float32), nudged(published()), published(100)],
    ids=["any numbers", "one between", "inputs"],
)
def test_other_matrices_stay_as_they_are(matrix: np.ndarray) -> None:
    model = graph(matrix)
    before = model.SerializeToString()
    assert published_blocks(matrix) is None
    assert store_in_four_bits(model, graph(matrix)) == 0
    assert model.SerializeToString() == before


def test_a_matrix_that_was_trained_as_a_whole_stays_as_it_is() -> None:
    matrix = published()
    merged = matrix + DRAW.normal(size=(K, N)).astype(np.float32) * np.float32(0.01)
    assert low_rank_factors(merged, matrix) is None
    model = graph(merged)
    assert store_in_four_bits(model, graph(matrix)) == 0
    assert model.SerializeToString() == graph(merged).SerializeToString()


@pytest.mark.parametrize("rank", [0, 1, 32, 96])
def test_the_rank_is_that_of_the_adapters(rank: int) -> None:
    matrix = published()
    down, up = low_rank_factors(matrix + adapters(rank), matrix) or pytest.fail("none")
    assert (down.shape, up.shape) == ((K, rank), (rank, N))


def test_files_are_rewritten_in_place(tmp_path: Path) -> None:
    matrix = published()
    merged = matrix + adapters(2)
    for name, each in (("model.onnx", merged), ("published.onnx", matrix)):
        onnx.save(
            graph(each),
            tmp_path / name,
            save_as_external_data=True,
            location=f"{name}.data",
            size_threshold=0,
        )
    weights = tmp_path / "model.onnx.data"
    before = weights.stat().st_size
    main(tmp_path / "model.onnx", tmp_path / "published.onnx")
    assert weights.stat().st_size < before / 3
    x = DRAW.normal(size=(1, 2, K)).astype(np.float32)
    np.testing.assert_allclose(
        computed(onnx.load(tmp_path / "model.onnx"), x), x @ merged, atol=1e-4
    )
