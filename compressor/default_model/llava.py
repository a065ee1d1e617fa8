"""The default model as a Hugging Face LLaVA: EfficientNet-Lite, a projector that speaks in words, a
small Llama.

Differs from `LlavaForConditionalGeneration` in the projector, and in that summary tokens start from
what the picture shows (seeds), so that one forward pass does what decoding would. Registered with
the Auto classes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaModel,
    LlavaProcessor,
)
from transformers.models.llava.modeling_llava import LlavaModelOutputWithPast

from compressor.default_model.projector import CaptionHeads, Sight, WordProjector
from compressor.default_model.retrieval_head import PartedHead
from compressor.fwd2bot.model import SummaryLvlm
from compressor.fwd2bot.retrieval_head import EmbeddingHead


class WordLlavaConfig(LlavaConfig):
    """LlavaConfig and the sizes of the projector's heads."""

    model_type = "word_llava"

    things: int = 1
    colours: int = 11
    counts: int = 5
    captions: int = 1
    frame_sizes: list[int] | tuple[int, ...] = (
        1,
        1,
        1,
        1,
        1,
    )  # tokens of each frame of the projector


class WordLlavaModel(LlavaModel):
    """LLaVA whose projector also seeds the summary tokens: ids from the vocabulary's size on."""

    config_class = WordLlavaConfig

    def __init__(self, config: WordLlavaConfig) -> None:
        super().__init__(config)
        text = config.text_config
        self.multi_modal_projector = WordProjector(
            config.vision_config,
            config.things,
            config.colours,
            config.counts,
            config.captions,
            config.frame_sizes,
            text.hidden_size,
        )

    def see(self, pixel_values: Tensor) -> Sight:
        """(B, 3, H, W) pixels → what the projector says of them."""
        return self.multi_modal_projector(self.vision_tower(pixel_values).last_hidden_state)

    def get_image_features(self, pixel_values: Tensor, **_: Any) -> Any:
        """As in LLaVA; `pooler_output` is a list of (V, D) visual tokens."""
        outputs = self.vision_tower(pixel_values)
        outputs.pooler_output = list(
            self.multi_modal_projector(outputs.last_hidden_state).visual_tokens
        )
        return outputs

    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        sight: Sight | None = None,
        inputs_embeds: Tensor | None = None,
        **kwargs: Any,
    ) -> LlavaModelOutputWithPast:
        """As in LLaVA; `sight` may stand for `pixel_values` where it has been taken before."""
        if input_ids is not None and (pixel_values is not None or sight is not None):
            sight = self.see(pixel_values) if sight is None else sight
            inputs_embeds = self.embed_with_sight(input_ids, sight)
            input_ids = None
        return super().forward(input_ids=input_ids, inputs_embeds=inputs_embeds, **kwargs)

    def embed_with_sight(self, input_ids: Tensor, sight: Sight) -> Tensor:
        """(B, T) ids → (B, T, D): visual tokens at their placeholders, seeds added to the summary tokens."""
        embedded = self.get_input_embeddings()(input_ids)
        places = (input_ids == self.config.image_token_id).unsqueeze(-1)
        embedded = embedded.masked_scatter(places, sight.visual_tokens.to(embedded.dtype))
        summary = input_ids >= self.config.text_config.vocab_size
        if not summary.any():
            return embedded
        number = (input_ids - self.config.text_config.vocab_size).clamp(0, sight.seeds.shape[1] - 1)
        seeds = sight.seeds.gather(1, number.unsqueeze(-1).expand(-1, -1, embedded.shape[-1]))
        within = summary & (input_ids < self.config.text_config.vocab_size + sight.seeds.shape[1])
        return embedded + torch.where(within.unsqueeze(-1), seeds.to(embedded.dtype), 0)


class WordLlavaForConditionalGeneration(LlavaForConditionalGeneration):
    """The default model with its language-model head."""

    config_class = WordLlavaConfig
    # The projector compares scores with thresholds that were chosen in float32.
    _keep_in_fp32_modules_strict = ["vision_tower", "multi_modal_projector"]  # noqa: RUF012

    def __init__(self, config: WordLlavaConfig) -> None:
        super().__init__(config)
        self.model = WordLlavaModel(config)
        self.names: tuple[
            str, ...
        ] = ()  # what the rows of the projector's heads mean; known where it is trained
        self.caption_folds: list[
            CaptionHeads
        ] = []  # each kept from a fold of the photographs; likewise
        self.post_init()

    def keep_cells(self, count: int, processor: LlavaProcessor) -> None:
        """Looks at `count` cells of each picture, drawn anew each time (0: at all), and makes room
        for as many.
        """
        projector = self.model.multi_modal_projector
        projector.cells_kept = count
        left_out = projector.cell_tokens - count if count else 0
        processor.num_additional_image_tokens = projector.extra_tokens - left_out

    @contextmanager
    def as_if_unseen(
        self, hidden: Sequence[Collection[str]], folds: Sequence[int | None]
    ) -> Iterator[None]:
        """Within, the projector sees each of B pictures as if it had never learnt from it.

        It knows none of the names that are hidden of a picture, and what it says of captions comes
        from heads that were kept from the picture's fold, where it has such heads (`caption_folds`)
        and the picture a fold.
        """
        projector = self.model.multi_modal_projector
        if any(hidden):
            rows = [[name.lower() in names for name in self.names] for names in hidden]
            projector.hidden_names = torch.tensor(rows, device=self.device)
        if self.caption_folds:
            own = CaptionHeads(projector.captions, projector.sense)
            projector.caption_heads = [
                own if fold is None else self.caption_folds[fold] for fold in folds
            ]
        try:
            yield
        finally:
            projector.hidden_names = projector.caption_heads = None


class WordSummaryLvlm(SummaryLvlm):
    """The default model with summary tokens, a `summarize` flag for its chat template, and a
    retrieval head of parts.
    """

    first_pass_flags: ClassVar[Mapping[str, bool]] = {"summarize": True}

    def make_head(self) -> EmbeddingHead:
        """Parts side by side, and a gate."""
        return PartedHead.of(self.config, self.hidden_size)


AutoConfig.register("word_llava", WordLlavaConfig)
AutoModelForImageTextToText.register(WordLlavaConfig, WordLlavaForConditionalGeneration)
