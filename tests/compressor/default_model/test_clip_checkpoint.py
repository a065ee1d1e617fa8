"""CLIP's checkpoint: whole numbers with scales become float weights, positions fit the pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from transformers import CLIPVisionConfig, CLIPVisionModel

from compressor.default_model.clip_checkpoint import clip_state, resized_positions
from compressor.errors import ModelFilesInvalid


def quantised_file(folder: Path) -> tuple[Path, np.ndarray]:
    """A file as `quantize_dynamic` writes it, of one product, and the matrix that it stands for."""
    draw = np.random.default_rng(0)
    whole = draw.integers(-127, 127, (6, 4), dtype=np.int8)
    scale = draw.random(4, dtype=np.float32)
    zero_point = draw.integers(-3, 3, 4, dtype=np.int8)
    arrays = {
        "onnx::MatMul_9_quantized": whole,
        "onnx::MatMul_9_scale": scale,
        "onnx::MatMul_9_zero_point": zero_point,
        "vision_model.post_layernorm.bias": np.arange(4, dtype=np.float32),
    }
    node = helper.make_node(
        "MatMulInteger",
        ["x", "onnx::MatMul_9_quantized", "x_zero_point", "onnx::MatMul_9_zero_point"],
        ["y"],
        name="/vision_model/encoder/layers.0/mlp/fc1/MatMul_quant",
    )
    graph = helper.make_graph(
        [node],
        "clip",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [1, 6])],
        [helper.make_tensor_value_info("y", TensorProto.INT32, [1, 4])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    path = folder / "clip.onnx"
    onnx.save(helper.make_model(graph), path)
    return path, (whole.astype(np.float32) - zero_point) * scale


def test_matrices_get_their_numbers_and_modules_back(tmp_path: Path) -> None:
    path, matrix = quantised_file(tmp_path)
    state = clip_state(path)
    assert set(state) == {
        "vision_model.post_layernorm.bias",
        "vision_model.encoder.layers.0.mlp.fc1.weight",
    }
    weight = state["vision_model.encoder.layers.0.mlp.fc1.weight"]
    np.testing.assert_array_equal(weight.numpy(), matrix.T)
    bias = state["vision_model.post_layernorm.bias"]
    assert bias.tolist() == [0, 1, 2, 3]


def test_another_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "clip.onnx"
    path.write_bytes(b"\xff not a model")
    with pytest.raises(ModelFilesInvalid, match=r"clip\.onnx is no ONNX file"):
        clip_state(path)


def test_positions_for_another_size_are_those_of_transformers() -> None:
    config = CLIPVisionConfig(
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=56,
        patch_size=8,
    )
    embeddings = CLIPVisionModel(config).embeddings
    known = embeddings.position_embedding.weight.detach()
    resized = resized_positions(known, side=5)
    expected = embeddings.interpolate_pos_encoding(torch.zeros(1, 26, 8), 40, 40)
    torch.testing.assert_close(resized, expected[0].detach())
    torch.testing.assert_close(resized_positions(known, side=7), known)
