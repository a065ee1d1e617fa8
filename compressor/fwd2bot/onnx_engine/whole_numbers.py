"""Stores matrices of an ONNX graph in eight bits where that loses nothing.

A published checkpoint may hold matrices of whole numbers, with a scale and a zero point for each
output. In float32 they take four times the memory and say no more. ONNX Runtime's `MatMulNBits`
keeps them as they are, and multiplies in float32 with the same numbers as before, bit for bit.
Shapes: K inputs, N outputs, C blocks of inputs.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper

from compressor.fwd2bot.onnx_engine.matmul_nbits import declare_operator, product_node

_BLOCK = 128  # inputs that share a scale, by the operator; here all of an output have the same
_CODES = 256


def pack_whole_numbers(model: ModelProto) -> int:
    """Rewrites the products with such matrices; returns how many there are.

    The weights must be in memory.
    """
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    packed = 0
    for node in model.graph.node:
        if node.op_type == "MatMul" and node.input[1] in weights:
            packed += _pack(model, node, weights[node.input[1]])
    if packed:
        declare_operator(model)
    uses = Counter(name for node in model.graph.node for name in node.input)
    kept = [tensor for tensor in model.graph.initializer if uses[tensor.name]]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    return packed


def _pack(model: ModelProto, node: NodeProto, weight: TensorProto) -> bool:
    matrix = numpy_helper.to_array(weight)
    if matrix.dtype != np.float32 or matrix.ndim != 2 or len(matrix) % _BLOCK:
        return False
    K, N = matrix.shape
    outputs = [_whole_numbers(column) for column in matrix.T]
    found = [output for output in outputs if output is not None]
    if len(found) < N:
        return False
    C = K // _BLOCK
    codes, scales, zero_points = map(np.stack, zip(*found, strict=True))
    tensors = {
        "codes": codes.reshape(N, C, _BLOCK),
        "scales": np.repeat(scales[:, None], C, axis=1),
        "zero_points": np.repeat(zero_points[:, None], C, axis=1),
    }
    # Named after the node: another one may use the same matrix.
    names = [f"{node.name}.{name}" for name in tensors]
    model.graph.initializer.extend(
        numpy_helper.from_array(tensor, name)
        for tensor, name in zip(tensors.values(), names, strict=True)
    )
    product = product_node(
        node.name,
        [node.input[0], *names],
        node.output[0],
        (K, N),
        bits=8,
        block_size=_BLOCK,
    )
    node.CopyFrom(product)
    return True


def _whole_numbers(
    values: NDArray[np.float32],
) -> tuple[NDArray[np.uint8], np.float32, np.uint8] | None:
    """(K,) codes, a scale and a zero point that give exactly these (K,) values; None if none do."""
    # With 0, which is the zero point's value.
    levels = np.unique(np.append(values, np.float32(0)))
    if len(levels) > _CODES:
        return None
    if len(levels) == 1:
        return np.zeros(len(values), np.uint8), np.float32(1), np.uint8(0)
    # Of the neighbours that occur; if the scale is a part of it, the products below differ.
    step = np.diff(levels.astype(np.float64)).min()
    whole = np.rint(values / step)
    low, high = whole.min(), whole.max()
    zero_point = float(np.clip(-low, 0, _CODES - 1))
    if low + zero_point < 0 or high + zero_point >= _CODES:
        return None
    largest = np.abs(values).argmax()
    near = np.float32(values[largest] / whole[largest])
    for scale in (near, *(np.nextafter(near, np.float32(to)) for to in (0, np.inf))):
        if np.array_equal(whole.astype(np.float32) * scale, values):
            codes = (whole + zero_point).astype(np.uint8)
            return codes, scale, np.uint8(zero_point)
    return None
