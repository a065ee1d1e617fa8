"""Stores an exported language model in the four bits it was published in, in place.

    python -m compressor.fwd2bot.onnx_engine.four_bits GRAPH PUBLISHED

GGUF's Q4_1 has blocks of 32 inputs of an output, each weight `scale · code + least` with a code of
four bits. Adapters add a product of low rank to it. Merged in float32 that takes four times the
memory and says no more. So a product with a merged matrix becomes three: one with the published
matrix (`MatMulNBits`, which reads it as `scale · (code - 8)`), and two small ones with the
adapters' factors, beside which stands what the blocks' other offset adds to the sum of a block's
inputs. All are in float32, and only the order of rounding differs.
Shapes: K inputs, N outputs, C blocks of inputs, R rank.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper

from compressor.fwd2bot.onnx_engine.matmul_nbits import declare_operator, product_node

_BLOCK = 32
_TOP = 15  # the code of a block's largest weight; the least has 0
_ZERO_POINT = 8  # `MatMulNBits` has it where none is given
# Of the largest weight: what rounding to float32 a few times may leave.
_ROUNDING = 4 * np.finfo(np.float32).eps
_MOST_RANK = 128  # of a change; an adapter's is far less

Matrix = NDArray[np.float32]
Codes = NDArray[np.uint8]


def store_in_four_bits(model: ModelProto, published: ModelProto) -> int:
    """Rewrites the products with matrices that were published so; returns how many there are.

    `published` is the graph of the same language model as it was published. The weights of both
    must be in memory.
    """
    return _Rewriting(model, published).run()


def published_blocks(matrix: Matrix) -> tuple[Codes, Matrix, Matrix] | None:
    """(N, C, 32) codes, (N, C) scales and (N, C) least weights of a (K, N) matrix; None if none
    give it exactly.
    """
    if len(matrix) % _BLOCK:
        return None
    blocks = matrix.T.reshape(matrix.shape[1], -1, _BLOCK)
    least = blocks.min(-1)
    scales = (blocks.max(-1) - least) / np.float32(_TOP)
    offsets = blocks - least[..., None]
    codes = np.rint(offsets / np.where(scales == 0, np.float32(1), scales)[..., None])
    if not np.array_equal(scales[..., None] * codes + least[..., None], blocks):
        return None
    return codes.astype(np.uint8), scales, least


def low_rank_factors(merged: Matrix, matrix: Matrix) -> tuple[Matrix, Matrix] | None:
    """(K, R) and (R, N) whose product is `merged - matrix`, rounding apart; None if R is large."""
    K, N = matrix.shape
    change = merged.astype(np.float64) - matrix
    largest = float(np.abs(merged).max())
    # What the change makes of more random inputs than its rank spans all that it can make. So a
    # few columns are decomposed, and not the whole.
    probe = np.random.default_rng(0).normal(size=(N, min(_MOST_RANK, K, N)))
    span, _ = np.linalg.qr(change @ probe)
    inside = span.T @ change
    turns, sizes, up = np.linalg.svd(inside, full_matrices=False)
    # Rounding of the merged weights is a change too, one of full rank, but smaller than this.
    kept = sizes > largest * float(np.finfo(np.float32).eps) * max(K, N) ** 0.5
    down, up = span @ (turns[:, kept] * sizes[kept]), up[kept]
    if np.abs(down @ up - change).max() > _ROUNDING * largest:
        return None
    return down.astype(np.float32), up.astype(np.float32)


class _Rewriting:
    def __init__(self, model: ModelProto, published: ModelProto) -> None:
        self._model = model
        self._weights = {each.name: each for each in model.graph.initializer}
        self._published = {each.name: each for each in published.graph.initializer}
        self._nodes: list[NodeProto] = []
        # Sums of blocks, by the values they are of: several products may share these.
        self._sums: dict[str, str] = {}

    def run(self) -> int:
        graph = self._model.graph
        count = 0
        for node in graph.node:
            is_product = node.op_type == "MatMul" and node.input[1] in self._published
            if is_product and self._replace(node):
                count += 1
            else:
                self._nodes.append(node)
        del graph.node[:]
        graph.node.extend(self._nodes)
        used = {name for node in graph.node for name in node.input}
        del graph.initializer[:]
        graph.initializer.extend(
            each for name, each in self._weights.items() if name in used
        )
        if count:
            declare_operator(self._model)
        return count

    def _replace(self, node: NodeProto) -> bool:
        values, weight = node.input
        merged = numpy_helper.to_array(self._weights[weight])
        matrix = numpy_helper.to_array(self._published[weight])
        if merged.dtype != np.float32 or merged.ndim != 2:
            return False
        blocks = published_blocks(matrix)
        factors = low_rank_factors(merged, matrix) if blocks else None
        if blocks is None or factors is None:
            return False
        codes, scales, least = blocks
        down, up = factors
        name = node.name
        # Two codes in a byte, the first in the lower half.
        pairs = codes[..., 0::2] | (codes[..., 1::2] << 4)
        inputs = [
            values,
            self._weight(f"{name}.codes", pairs),
            self._weight(f"{name}.scales", scales),
        ]
        K, N = merged.shape
        of_published = f"{name}.published"
        product = product_node(
            of_published, inputs, of_published, (K, N), bits=4, block_size=_BLOCK
        )
        self._nodes.append(product)
        low = self._block_sums(values, K)
        if down.shape[1]:
            lowered = [values, self._weight(f"{name}.down", down)]
            lowered = [self._node("MatMul", lowered, f"{name}.lowered"), low]
            low = self._node("Concat", lowered, f"{name}.low", axis=-1)
        offsets = (least + _ZERO_POINT * scales).T
        raising = self._weight(f"{name}.up", np.concatenate([up, offsets]))
        raised = self._node("MatMul", [low, raising], f"{name}.raised")
        self._nodes.append(
            helper.make_node("Add", [of_published, raised], [*node.output], name=name)
        )
        return True

    def _block_sums(self, values: str, inputs: int) -> str:
        """(B, T, K) values → (B, T, C)."""
        if values not in self._sums:
            shape = np.array([0, 0, inputs // _BLOCK, _BLOCK])
            shaped = [values, self._weight(f"blocks_of_{inputs}", shape)]
            blocks = self._node("Reshape", shaped, f"{values}.blocks")
            axes = self._weight("axis_of_a_block", np.array([-1]))
            self._sums[values] = self._node(
                "ReduceSum", [blocks, axes], f"{values}.sums", keepdims=0
            )
        return self._sums[values]

    def _node(self, kind: str, inputs: list[str], name: str, **settings: Any) -> str:
        """Adds a node; returns the name of what it computes."""
        made = helper.make_node(kind, inputs, [name], name=name, **settings)
        self._nodes.append(made)
        return name

    def _weight(self, name: str, values: NDArray[Any]) -> str:
        self._weights[name] = numpy_helper.from_array(
            np.ascontiguousarray(values), name
        )
        return name


def main(graph: Path, published: Path) -> None:
    """Rewrites the graph and its weights, which lie beside it under its name and `.data`."""
    model = onnx.load(graph)
    if store_in_four_bits(model, onnx.load(published)):
        weights = graph.with_name(f"{graph.name}.data")
        # Otherwise the new weights would be written behind the old ones.
        weights.unlink()
        onnx.save(model, graph, save_as_external_data=True, location=weights.name)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
