"""EfficientNet-Lite as a Hugging Face vision tower, batch norms folded into the convolutions.

Architecture: EfficientNet (Tan & Le 2019, arXiv 1905.11946) in its Lite form: no squeeze-excite,
ReLU6.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

# (repeats, kernel_px, stride, expansion, input channels, output channels) of each stage of Lite2.
LITE2_STAGES = (
    (1, 3, 1, 1, 32, 16),
    (3, 3, 2, 6, 16, 24),
    (3, 5, 2, 6, 24, 48),
    (4, 3, 2, 6, 48, 88),
    (4, 5, 1, 6, 88, 120),
    (5, 5, 2, 6, 120, 208),
    (1, 3, 1, 6, 208, 352),
)
# The published weights were trained with it; PyTorch's default is a hundredth of that.
_BATCH_NORM_EPSILON = 1e-3


class EfficientNetLiteConfig(PreTrainedConfig):
    """Shape of the tower. A cell of the output carries its features, and of its four quarters fine
    features and mean colours.
    """

    model_type = "efficientnet_lite"

    # For the finer grid, on which small objects are counted. Names hardly depend on it: top-1 of
    # Lite2 is 84.9 % at 288 px, 85.7 % at 320 and 85.5 % at 352.
    image_size: int = 288  # px, both sides
    stages: list[list[int]] | tuple[tuple[int, ...], ...] = LITE2_STAGES
    stem_channels: int = 32
    feature_size: int = 1280
    num_classes: int = 1000
    # The last block at half the final stride: its features separate objects that lie close.
    fine_block: int = 14
    fine_size: int = 4 * 120
    colour_size: int = 4 * 3  # mean colour of each quarter
    hidden_size: int = 1280 + 4 * 120 + 4 * 3

    @property
    def grid_size(self) -> int:
        """Cells along one side of the output grid: the tower halves the picture five times."""
        return self.image_size // 32


class _Convolution(nn.Module):
    """Convolution with the "same" padding of TensorFlow (the odd pixel goes right and below) and
    optional ReLU6.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        act: bool = True,
    ) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(
            inputs,
            outputs,
            kernel,
            stride,
            groups=groups,
            bias=True,
        )
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        # PyTorch pads both sides alike, TensorFlow only as far as the stride needs; the published
        # weights were trained with the latter.
        kernel, stride = self.convolution.kernel_size[0], self.convolution.stride[0]
        pads: list[int] = []
        for size in (x.shape[-1], x.shape[-2]):
            outputs = math.ceil(size / stride)
            total = max((outputs - 1) * stride + kernel - size, 0)
            before = total // 2
            pads += [before, total - before]
        if any(pads):
            x = nn.functional.pad(x, pads)
        x = self.convolution(x)
        return nn.functional.relu6(x) if self.act else x


class _Block(nn.Module):
    """Inverted residual: expand, depthwise, project; a skip where shapes allow."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int,
        expansion: int,
    ) -> None:
        super().__init__()
        # Without expansion there is no first convolution, as in the published layer numbering.
        wide = inputs * expansion
        layers = [_Convolution(inputs, wide, 1)] if expansion != 1 else []
        layers += [
            _Convolution(wide, wide, kernel, stride, groups=wide),
            _Convolution(wide, outputs, 1, act=False),
        ]
        self.layers = nn.Sequential(*layers)
        self.skip = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        projected: Tensor = self.layers(x)
        return x + projected if self.skip else projected


class EfficientNetLiteModel(PreTrainedModel):
    """(B, 3, size, size) pixels in [-1, 1] → (B, grid², hidden_size) cells in row order."""

    config_class = EfficientNetLiteConfig
    main_input_name = "pixel_values"
    base_model_prefix = "vision_tower"

    def __init__(self, config: EfficientNetLiteConfig) -> None:
        super().__init__(config)
        blocks: list[nn.Module] = []
        for repeats, kernel, stride, expansion, inputs, outputs in config.stages:
            for repeat in range(repeats):
                if repeat == 0:
                    blocks.append(_Block(inputs, outputs, kernel, stride, expansion))
                else:
                    blocks.append(_Block(outputs, outputs, kernel, 1, expansion))
        self.stem = _Convolution(3, config.stem_channels, 3, 2)
        self.blocks = nn.Sequential(*blocks)
        self.head = _Convolution(config.stages[-1][-1], config.feature_size, 1)
        self.post_init()  # type: ignore[no-untyped-call]

    def forward(self, pixel_values: Tensor, **_: Any) -> BaseModelOutput:
        """Each cell: features, and of its four quarters fine features and mean colours."""
        # In channels-last layout convolutions on a CPU take two thirds of the time.
        pixels = pixel_values
        if not torch.onnx.is_in_onnx_export():  # which has no layouts
            pixels = pixels.contiguous(memory_format=torch.channels_last)
        coarse_from = self.config.fine_block + 1
        fine = self.blocks[:coarse_from](self.stem(pixels))
        features = self.head(self.blocks[coarse_from:](fine))
        # The tower's features hardly know colours, so each quarter carries its own.
        size = (int(fine.shape[-2]), int(fine.shape[-1]))
        shades = nn.functional.adaptive_avg_pool2d(pixel_values, size)
        fine_features = nn.functional.pixel_unshuffle(fine, 2)
        colours = nn.functional.pixel_unshuffle(shades, 2)
        grid = torch.cat([features, fine_features, colours], dim=1)
        cells = grid.flatten(2).transpose(1, 2)
        return BaseModelOutput(last_hidden_state=cells, hidden_states=(cells,))


def tower_state_from_checkpoint(
    checkpoint: dict[str, Tensor], config: EfficientNetLiteConfig
) -> dict[str, Tensor]:
    """State of `EfficientNetLiteModel` from the published checkpoint's.

    Each batch norm is folded into its convolution, for at inference it is a linear map of the
    convolution's output.
    """
    layers = {"stem": ("_conv_stem", "_bn0"), "head": ("_conv_head", "_bn1")}
    # The checkpoint numbers blocks through all stages, as `nn.Sequential` does.
    number = 0
    for repeats, _, _, expansion, _, _ in config.stages:
        for repeat in range(repeats):
            parts = [("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")]
            if expansion != 1 or repeat > 0:
                parts.insert(0, ("_expand_conv", "_bn0"))
            for place, (convolution, norm) in enumerate(parts):
                published = (
                    f"_blocks.{number}.{convolution}",
                    f"_blocks.{number}.{norm}",
                )
                layers[f"blocks.{number}.layers.{place}"] = published
            number += 1
    state = {
        "classifier.weight": checkpoint["_fc.weight"],
        "classifier.bias": checkpoint["_fc.bias"],
    }
    for name, (convolution, norm) in layers.items():
        weight, bias = _folded(checkpoint, convolution, norm)
        state[f"{name}.convolution.weight"] = weight
        state[f"{name}.convolution.bias"] = bias
    return state


def _folded(
    checkpoint: dict[str, Tensor],
    convolution: str,
    norm: str,
) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution with its batch norm."""
    variance = checkpoint[f"{norm}.running_var"]
    scale = checkpoint[f"{norm}.weight"] / torch.sqrt(variance + _BATCH_NORM_EPSILON)
    weight = checkpoint[f"{convolution}.weight"] * scale[:, None, None, None]
    bias = checkpoint[f"{norm}.bias"] - checkpoint[f"{norm}.running_mean"] * scale
    return weight, bias


AutoConfig.register("efficientnet_lite", EfficientNetLiteConfig)
AutoModel.register(EfficientNetLiteConfig, EfficientNetLiteModel)
