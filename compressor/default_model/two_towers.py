"""The default model's vision tower: CLIP sees what is there, EfficientNet-Lite names it.

CLIP ViT-B/16 (Radford et al., arXiv 2103.00020) learnt from captions: people, actions, scenes. Its
checkpoint comes without the text encoder, so it has no names; EfficientNet-Lite has a thousand.
Shapes: B pictures, N cells, C channels of a cell.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.configuration_utils import SubConfigSpec

from compressor.default_model.vision_tower import (
    EfficientNetLiteConfig,
    EfficientNetLiteModel,
)

# Mean and standard deviation of the pixels that CLIP was trained on, for pixels in 0..1.
_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
_CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
# Patches of the layer before the last, as LLaVA takes them (arXiv 2304.08485, section 4.1): the
# last layer's serve the whole picture's embedding.
_PATCH_LAYER = -2
_PATCHES_A_SIDE = 2  # of a cell
_COLOURS = 3

# Of (B, C, H, W) and the numbers of rows and columns that come out.
_Operation = Callable[[Tensor, int, int], Tensor]


class TwoTowersConfig(PreTrainedConfig):
    """Both towers' configurations. A cell of the output is a square of four CLIP patches."""

    model_type = "efficientnet_lite_clip"
    sub_configs_defaults = {  # noqa: RUF012  as in Transformers' own configurations
        "name_config": SubConfigSpec(config_class=EfficientNetLiteConfig),
        "clip_config": SubConfigSpec(config_class=CLIPVisionConfig),
    }

    name_config: dict[str, Any] | PreTrainedConfig | None = None
    clip_config: dict[str, Any] | PreTrainedConfig | None = None

    @property
    def names(self) -> EfficientNetLiteConfig:
        """The naming tower's, by its type."""
        return cast(EfficientNetLiteConfig, self.name_config)

    @property
    def clip(self) -> CLIPVisionConfig:
        """CLIP's, by its type."""
        return cast(CLIPVisionConfig, self.clip_config)

    @property
    def image_size(self) -> int:
        """Side of the pictures in pixels; CLIP's are made from them."""
        return self.names.image_size

    @property
    def clip_size(self) -> int:
        """Side of CLIP's pictures in pixels."""
        return cast(int, self.clip.image_size)

    @property
    def clip_patches(self) -> int:
        """Patches along one side of them."""
        return self.clip_size // cast(int, self.clip.patch_size)

    @property
    def grid_size(self) -> int:
        """Cells along one side."""
        return self.clip_patches // _PATCHES_A_SIDE

    @property
    def cell_size(self) -> int:
        """Channels of a cell: its four patches, and their mean colours."""
        return _PATCHES_A_SIDE**2 * (self.clip.hidden_size + _COLOURS)

    @property
    def hidden_size(self) -> int:
        """Channels of a cell, by the name that Transformers looks for."""
        return self.cell_size


@dataclass(frozen=True)
class TwoTowersOutput:
    """What both towers saw, in float32."""

    cells: Tensor  # (B, N, cell_size) in row order
    cell_names: Tensor  # (B, N, F) the naming tower's features of each cell
    picture_names: Tensor  # (B, F) their mean over the whole picture
    picture: Tensor  # (B, E) CLIP's embedding


class TwoTowersModel(PreTrainedModel):
    """(B, 3, size, size) pixels in [-1, 1] → `TwoTowersOutput`."""

    config_class = TwoTowersConfig
    main_input_name = "pixel_values"
    base_model_prefix = "vision_tower"
    config: TwoTowersConfig

    def __init__(self, config: TwoTowersConfig) -> None:
        super().__init__(config)
        self.name_tower = EfficientNetLiteModel(config.names)
        self.clip = CLIPVisionModelWithProjection(config.clip)
        size = config.image_size
        self._pool_names = _OnBothAxes(_pool, config.names.grid_size, config.grid_size)
        self._pool_colours = _OnBothAxes(_pool, size, config.clip_patches)
        self._resize = _OnBothAxes(_resize, size, config.clip_size)
        self.post_init()  # type: ignore[no-untyped-call]

    def forward(self, pixel_values: Tensor, **_: Any) -> TwoTowersOutput:
        """Both towers' view of the same pixels."""
        pixels = pixel_values.float()
        # The frozen tower in float32 whatever trains around it: its names decide the soft words.
        with torch.autocast(pixels.device.type, enabled=False):
            cells = self.name_tower(pixels).last_hidden_state
        features = cells[..., : self.config.names.feature_size]
        grid = features.transpose(1, 2).unflatten(2, (self.config.names.grid_size, -1))
        cell_names = self._pool_names(grid)
        clip = self.clip(self._clip_pixels(pixels), output_hidden_states=True)
        patches = clip.hidden_states[_PATCH_LAYER][:, 1:].float().transpose(1, 2)
        patch_grid = patches.unflatten(2, (self.config.clip_patches, -1))
        # CLIP hardly tells where a colour is, so each patch carries its own.
        colours = self._pool_colours(pixels)
        joined = torch.cat([patch_grid, colours], dim=1)
        return TwoTowersOutput(
            cells=_rows(nn.functional.pixel_unshuffle(joined, _PATCHES_A_SIDE)),
            cell_names=_rows(cell_names),
            picture_names=features.mean(1),
            picture=clip.image_embeds.float(),
        )

    def _clip_pixels(self, pixels: Tensor) -> Tensor:
        resized = self._resize(pixels)
        mean = pixels.new_tensor(_CLIP_MEAN).view(3, 1, 1)
        std = pixels.new_tensor(_CLIP_STD).view(3, 1, 1)
        normalised = ((resized + 1) / 2 - mean) / std
        return normalised.to(self.clip.dtype)


class _OnBothAxes:
    """A linear operation that treats rows and columns of a square alike, one after the other.

    ONNX has none of those used here, but each is a product with one matrix from both sides.
    """

    def __init__(self, operation: _Operation, inputs: int, outputs: int) -> None:
        """From `inputs` to `outputs` values on a side."""
        self._operation = operation
        self._outputs = outputs
        # Of single rows, which only the columns' part changes. On the CPU and in float32 whatever
        # the weights are loaded as.
        rows = torch.eye(inputs, device="cpu", dtype=torch.float32).view(
            1, -1, 1, inputs
        )
        self._matrix = operation(rows, 1, outputs).view(inputs, outputs)

    def __call__(self, squares: Tensor) -> Tensor:
        """(B, C, inputs, inputs) → (B, C, outputs, outputs)."""
        if torch.onnx.is_in_onnx_export():
            return self._matrix.T @ squares @ self._matrix
        return self._operation(squares, self._outputs, self._outputs)


def _pool(squares: Tensor, rows: int, columns: int) -> Tensor:
    return nn.functional.adaptive_avg_pool2d(squares, (rows, columns))


def _resize(squares: Tensor, rows: int, columns: int) -> Tensor:
    return nn.functional.interpolate(
        squares, size=(rows, columns), mode="bicubic", antialias=True
    )


def _rows(grid: Tensor) -> Tensor:
    """(B, C, H, W) → (B, H·W, C)."""
    return grid.flatten(2).transpose(1, 2)


AutoConfig.register("efficientnet_lite_clip", TwoTowersConfig)
AutoModel.register(TwoTowersConfig, TwoTowersModel)
