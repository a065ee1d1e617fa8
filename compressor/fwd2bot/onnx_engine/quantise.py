"""Rounds the weights of an exported language model to int8, in place.

    python -m compressor.fwd2bot.onnx_engine.quantise GRAPH

Every 32 weights of an output share a scale, and ONNX Runtime rounds what they are multiplied with
to eight bits, every 32 values on their own. So a row's answer does not depend on the rows
computed beside it, as it would with one scale for a whole batch (dynamic quantisation).
"""

from __future__ import annotations

import sys
from pathlib import Path

import onnx
from onnxruntime.quantization.matmul_nbits_quantizer import (
    DefaultWeightOnlyQuantConfig,
    MatMulNBitsQuantizer,
)

_BLOCK = 32
_INT8_PRODUCTS = (
    4  # ONNX Runtime's "accuracy level" at which activations are rounded to int8
)


def quantise(graph: Path) -> None:
    """Rewrites the graph and its weights, which lie beside it under its name and `.data`."""
    config = DefaultWeightOnlyQuantConfig(
        block_size=_BLOCK, is_symmetric=True, accuracy_level=_INT8_PRODUCTS, bits=8
    )
    quantiser = MatMulNBitsQuantizer(onnx.load(graph), algo_config=config)
    quantiser.process()
    weights = graph.with_name(f"{graph.name}.data")
    # Otherwise the new weights would be written behind the old ones.
    weights.unlink()
    onnx.save(
        quantiser.model.model, graph, save_as_external_data=True, location=weights.name
    )


if __name__ == "__main__":
    quantise(Path(sys.argv[1]))
