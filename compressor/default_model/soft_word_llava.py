"""The default model's base as a Hugging Face LLaVA: two towers, soft words, SmolLM2.

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
from transformers.modeling_outputs import BaseModelOutputWithPooling

from compressor.default_model.soft_word_projector import NAME_TOKENS, SoftWordProjector
from compressor.default_model.two_towers import TwoTowersConfig


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
            cast(TwoTowersConfig, config.vision_config),
            config.get_text_config().hidden_size,
            config.projector_width,
        )
        self.multi_modal_projector = projector  # type: ignore[assignment]  # not LLaVA's

    def forward(
        self,
        *args: Any,
        pixel_values: Tensor | None = None,
        name_ids: Tensor | None = None,
        name_percent: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """As in LLaVA; (B, 4) `name_ids` spell another name than the naming tower's, if not -1.

        (B, 1) `name_percent` says how much of the four tokens is that name, if not all of them.
        """
        if pixel_values is not None and name_ids is not None:
            image = self.get_image_features(pixel_values, name_ids, name_percent)
            kwargs["mm_encoder_outputs"] = {"image": image}
            pixel_values = None
        return super().forward(*args, pixel_values=pixel_values, **kwargs)

    def get_image_features(
        self,
        pixel_values: Tensor,
        name_ids: Tensor | None = None,
        name_percent: Tensor | None = None,
        **_: Any,
    ) -> Any:
        """As in LLaVA; `pooler_output` is a list of (V, D) visual tokens."""
        with torch.no_grad():  # nothing of the towers is ever trained
            seen = self.vision_tower(pixel_values)
        tokens = self.multi_modal_projector(seen)
        if name_ids is not None:
            tokens = self._renamed(tokens, name_ids, name_percent)
        # LLaVA's own output has a list in this place too, whatever its type says.
        return BaseModelOutputWithPooling(pooler_output=list(tokens))  # type: ignore[arg-type]

    def _renamed(
        self, tokens: Tensor, name_ids: Tensor, name_percent: Tensor | None
    ) -> Tensor:
        words = self.get_input_embeddings()(name_ids.clamp(min=0)).to(tokens)
        own, towers = tokens[:, :-NAME_TOKENS], tokens[:, -NAME_TOKENS:]
        if name_percent is not None:
            share = torch.where(name_percent < 0, 100, name_percent) / 100
            words = torch.lerp(towers, words, share.to(tokens).unsqueeze(-1))
        is_renamed = (name_ids >= 0).unsqueeze(-1)
        return torch.cat([own, torch.where(is_renamed, words, towers)], dim=1)


class SoftWordLlavaForConditionalGeneration(LlavaForConditionalGeneration):
    """The base model with its language-model head."""

    config_class = SoftWordLlavaConfig
    model: SoftWordLlavaModel
    # Probabilities over a thousand names need the digits.
    _keep_in_fp32_modules_strict = ["name_tower", "multi_modal_projector"]  # noqa: RUF012

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

    def visual_tokens(self, pixel_values: Tensor) -> Tensor:
        """See `TraceableVision`."""
        tokens: Tensor = self.projector(self.model.vision_tower(pixel_values))
        return tokens


AutoConfig.register("soft_word_llava", SoftWordLlavaConfig)
AutoModelForImageTextToText.register(
    SoftWordLlavaConfig, SoftWordLlavaForConditionalGeneration
)
