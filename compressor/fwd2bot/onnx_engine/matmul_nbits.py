"""ONNX Runtime's product with a matrix of few bits, `MatMulNBits`, in float32.

Shapes: K inputs, N outputs.
"""

from __future__ import annotations

from collections.abc import Sequence

from onnx import ModelProto, NodeProto, helper

_DOMAIN = "com.microsoft"
_FLOAT32_PRODUCTS = 1  # ONNX Runtime's "accuracy level": inputs are not rounded


def product_node(
    name: str,
    inputs: Sequence[str],
    output: str,
    shape: tuple[int, int],
    *,
    bits: int,
    block_size: int,
) -> NodeProto:
    """The node of a product with a (K, N) matrix, of which `block_size` inputs share a scale.

    `inputs` name the values, the codes, their scales and, unless it is the middle, the zero points.
    """
    K, N = shape
    return helper.make_node(
        "MatMulNBits",
        inputs,
        [output],
        name=name,
        domain=_DOMAIN,
        K=K,
        N=N,
        bits=bits,
        block_size=block_size,
        accuracy_level=_FLOAT32_PRODUCTS,
    )


def declare_operator(model: ModelProto) -> None:
    """Makes the operator known to the graph, which may know it already."""
    if all(each.domain != _DOMAIN for each in model.opset_import):
        model.opset_import.append(helper.make_opsetid(_DOMAIN, 1))
