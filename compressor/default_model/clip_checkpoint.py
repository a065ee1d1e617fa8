"""CLIP's image encoder from an ONNX file with int8 weights.

The only copy of CLIP ViT-B/16 in the package index is one that `quantize_dynamic` of ONNX Runtime
wrote: each matrix as whole numbers with a scale and a zero point for each output.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import ModelProto, NodeProto, numpy_helper
from torch import Tensor, nn

from compressor.errors import ModelFilesInvalid

_QUANTIZED = "_quantized"  # end of the name of a matrix of whole numbers


def clip_state(path: Path) -> dict[str, Tensor]:
    """State of `CLIPVisionModelWithProjection` in float32. Raises ModelFilesInvalid."""
    try:
        model: ModelProto = onnx.load(path)
    except Exception as error:  # protobuf's errors have no common base
        raise ModelFilesInvalid(f"{path} is no ONNX file") from error
    arrays = {
        tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer
    }
    state = {}
    for name, array in arrays.items():
        if name.startswith("vision_model."):
            state[name] = torch.from_numpy(array.copy())
    for node in model.graph.node:
        for name in node.input:
            if name.endswith(_QUANTIZED) and name in arrays:
                state[f"{_module(node)}.weight"] = _dequantised(name, arrays)
    return state


def _module(node: NodeProto) -> str:
    """The module whose product a node is: "/a/b/MatMul_quant" is of "a.b"."""
    path = re.sub(r"/MatMul_quant$", "", node.name)
    return path.strip("/").replace("/", ".")


def _dequantised(name: str, arrays: dict[str, np.ndarray]) -> Tensor:
    """(outputs, inputs), as `nn.Linear` has it; ONNX has the transpose."""
    base = name.removesuffix(_QUANTIZED)
    whole = arrays[name].astype(np.float32)
    zero_point = arrays[f"{base}_zero_point"].astype(np.float32)
    weight = (whole - zero_point) * arrays[f"{base}_scale"]
    return torch.from_numpy(weight.T.copy())


def resized_positions(positions: Tensor, side: int) -> Tensor:
    """(1 + M², D) position embeddings of M×M patches → (1 + side², D), the class token's first.

    Bicubic, as `interpolate_pos_encoding` of Transformers does at every call.
    """
    of_class, of_patches = positions[:1], positions[1:]
    known = int(len(of_patches) ** 0.5)
    grid = of_patches.T.unflatten(1, (known, known)).unsqueeze(0)
    resized = nn.functional.interpolate(grid, size=(side, side), mode="bicubic")
    return torch.cat([of_class, resized[0].flatten(1).T])
