"""The tower against a plain PyTorch reference with separate batch norms."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from compressor.default_model.vision_tower import (
    EfficientNetLiteModel,
    _Convolution,
    tower_state_from_checkpoint,
)
from tests.compressor.tiny import SIDE_PX, STAGES, vision_config

EPSILON = 1e-3


def checkpoint() -> dict[str, Tensor]:
    """A random checkpoint with the published one's names."""
    config, draw = vision_config(), torch.Generator().manual_seed(3)
    state: dict[str, Tensor] = {}

    def convolution(
        name: str,
        norm: str,
        inputs: int,
        outputs: int,
        kernel: int,
        groups: int = 1,
    ) -> None:
        shape = (outputs, inputs // groups, kernel, kernel)
        state[f"{name}.weight"] = (
            torch.randn(shape, generator=draw) / (shape[1] * kernel**2) ** 0.5
        )
        state[f"{norm}.weight"] = torch.rand(outputs, generator=draw) + 0.5
        state[f"{norm}.bias"] = torch.randn(outputs, generator=draw)
        state[f"{norm}.running_mean"] = torch.randn(outputs, generator=draw)
        state[f"{norm}.running_var"] = torch.rand(outputs, generator=draw) + 0.2

    convolution(
        "_conv_stem",
        "_bn0",
        3,
        config.stem_channels,
        3,
    )
    number = 0
    for repeats, kernel, _, expansion, inputs, outputs in STAGES:
        for repeat in range(repeats):
            into = outputs if repeat else inputs
            wide, prefix = into * expansion, f"_blocks.{number}"
            if expansion != 1:
                convolution(
                    f"{prefix}._expand_conv",
                    f"{prefix}._bn0",
                    into,
                    wide,
                    1,
                )
            convolution(
                f"{prefix}._depthwise_conv",
                f"{prefix}._bn1",
                wide,
                wide,
                kernel,
                groups=wide,
            )
            convolution(
                f"{prefix}._project_conv",
                f"{prefix}._bn2",
                wide,
                outputs,
                1,
            )
            number += 1
    convolution(
        "_conv_head",
        "_bn1",
        STAGES[-1][-1],
        config.feature_size,
        1,
    )
    state["_fc.weight"], state["_fc.bias"] = (
        torch.randn(config.num_classes, config.feature_size),
        torch.zeros(6),
    )
    return state


def same(
    x: Tensor,
    weight: Tensor,
    stride: int,
    groups: int,
) -> Tensor:
    """TensorFlow's "same": ceil(size / stride) outputs, windows spread evenly, the odd pixel right
    and below.
    """
    kernel, size = weight.shape[-1], x.shape[-1]
    outputs = -(-size // stride)
    reach = (outputs - 1) * stride + kernel
    low = max(reach - size, 0) // 2
    canvas = x.new_zeros(
        *x.shape[:2],
        max(reach, size),
        max(reach, size),
    )
    canvas[..., low : low + size, low : low + size] = x
    return nn.functional.conv2d(
        canvas,
        weight,
        stride=stride,
        groups=groups,
    )


def reference(state: dict[str, Tensor], pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Features of the last layer, and of block 4."""

    def layer(
        x: Tensor,
        name: str,
        norm: str,
        stride: int = 1,
        groups: int = 1,
        act: bool = True,
    ) -> Tensor:
        x = same(x, state[f"{name}.weight"], stride, groups)
        statistics = (state[f"{norm}.running_mean"], state[f"{norm}.running_var"])
        x = nn.functional.batch_norm(
            x,
            *statistics,
            state[f"{norm}.weight"],
            state[f"{norm}.bias"],
            eps=EPSILON,
        )
        return x.clamp(0, 6) if act else x

    x, number, fine = layer(pixels, "_conv_stem", "_bn0", 2), 0, pixels
    for repeats, _, stride, expansion, _, _ in STAGES:
        for repeat in range(repeats):
            entered, prefix, step = x, f"_blocks.{number}", 1 if repeat else stride
            if expansion != 1:
                x = layer(x, f"{prefix}._expand_conv", f"{prefix}._bn0")
            x = layer(
                x,
                f"{prefix}._depthwise_conv",
                f"{prefix}._bn1",
                step,
                groups=x.shape[1],
            )
            x = layer(
                x,
                f"{prefix}._project_conv",
                f"{prefix}._bn2",
                act=False,
            )
            if step == 1 and x.shape == entered.shape:
                x = x + entered
            fine = x if number == 4 else fine
            number += 1
    return layer(x, "_conv_head", "_bn1"), fine


def test_folded_batch_norms_equal_separate_ones() -> None:
    config, state = vision_config(), checkpoint()
    tower = EfficientNetLiteModel(config).eval()
    folded = tower_state_from_checkpoint(state, config)
    assert {
        folded.pop("classifier.weight").shape,
        folded.pop("classifier.bias").shape,
    } == {
        (6, 24),
        (6,),
    }
    tower.load_state_dict(folded)
    pixels = (
        torch.rand(2, 3, SIDE_PX, SIDE_PX, generator=torch.Generator().manual_seed(4))
        * 2
        - 1
    )
    features, fine = reference(state, pixels)
    with torch.no_grad():
        cells = tower(pixels).last_hidden_state
    assert cells.shape == (2, config.grid_size**2, config.hidden_size)
    found, quarters, colours = cells.split(
        [config.feature_size, config.fine_size, config.colour_size], dim=-1
    )
    torch.testing.assert_close(
        found,
        features.flatten(2).transpose(1, 2),
        atol=1e-4,
        rtol=1e-4,
    )
    grid = quarters.transpose(1, 2).unflatten(2, (2, 2))
    torch.testing.assert_close(
        nn.functional.pixel_shuffle(grid, 2),
        fine,
        atol=1e-4,
        rtol=1e-4,
    )
    # Colours are means over quarters of cells: 4 × 4 of them.
    grid = nn.functional.pixel_shuffle(colours.transpose(1, 2).unflatten(2, (2, 2)), 2)
    torch.testing.assert_close(
        grid[:, :, 0, 3],
        pixels[:, :, :16, 48:].mean((2, 3)),
        atol=1e-5,
        rtol=1e-5,
    )


@pytest.mark.parametrize(
    ("size", "kernel", "stride"),
    [(7, 3, 2), (8, 3, 2), (8, 5, 2), (9, 5, 1), (3, 5, 2)],
)
def test_padding_is_that_of_tensorflow(
    size: int,
    kernel: int,
    stride: int,
) -> None:
    torch.manual_seed(size)
    layer = _Convolution(2, 3, kernel, stride, act=False)
    x = torch.randn(1, 2, size, size)
    expected = (
        same(x, layer.convolution.weight, stride, 1)
        + layer.convolution.bias[:, None, None]
    )
    torch.testing.assert_close(layer(x), expected)
    assert layer(x).shape[-1] == -(-size // stride)
