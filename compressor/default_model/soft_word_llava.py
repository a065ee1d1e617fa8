"""The default model's base as a Hugging Face LLaVA: EfficientNet-Lite, soft words, SmolLM2.

Differs from `LlavaForConditionalGeneration` in the projector alone. Registered with the Auto
classes, so a folder of it loads like any other LVLM's.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaModel,
)

from compressor.default_model.soft_word_projector import SoftWordProjector
from compressor.default_model.vision_tower import EfficientNetLiteConfig


class SoftWordLlavaConfig(LlavaConfig):
    """LlavaConfig and the width of the projector's learned part."""

    model_type = "soft_word_llava"

    projector_width: int = 768


class SoftWordLlavaModel(LlavaModel):
    """LLaVA with `SoftWordProjector`."""

    config_class = SoftWordLlavaConfig

    def __init__(self, config: SoftWordLlavaConfig) -> None:
        super().__init__(config)
        projector = SoftWordProjector(
            cast(EfficientNetLiteConfig, config.vision_config),
            config.get_text_config().hidden_size,
            config.projector_width,
        )
        self.multi_modal_projector = projector  # type: ignore[assignment]  # not LLaVA's

    def get_image_features(self, pixel_values: Tensor, **_: Any) -> Any:
        """As in LLaVA; `pooler_output` is a list of (V, D) visual tokens."""
        # The frozen tower in float32 whatever trains around it: its names decide the soft words.
        with torch.autocast(pixel_values.device.type, enabled=False):
            outputs = self.vision_tower(pixel_values.float())
        outputs.pooler_output = list(
            self.multi_modal_projector(outputs.last_hidden_state)
        )
        return outputs


class SoftWordLlavaForConditionalGeneration(LlavaForConditionalGeneration):
    """The base model with its language-model head."""

    config_class = SoftWordLlavaConfig
    model: SoftWordLlavaModel
    # Probabilities over a thousand names and the tower's features need the digits.
    _keep_in_fp32_modules_strict = ["vision_tower", "multi_modal_projector"]  # noqa: RUF012

    def __init__(self, config: SoftWordLlavaConfig) -> None:
        super().__init__(config)
        self.model = SoftWordLlavaModel(config)
        self.post_init()  # type: ignore[no-untyped-call]
        # `post_init` draws the weights of every linear layer anew.
        self.projector.reset()

    @property
    def projector(self) -> SoftWordProjector:
        """The projector, by its type."""
        return cast(SoftWordProjector, self.model.multi_modal_projector)


AutoConfig.register("soft_word_llava", SoftWordLlavaConfig)
AutoModelForImageTextToText.register(
    SoftWordLlavaConfig, SoftWordLlavaForConditionalGeneration
)
