"""The default model as a Hugging Face LLaVA.

EfficientNet-Lite, a projector that speaks in words, and a small Llama. Differs from
`LlavaForConditionalGeneration` in the projector, and in that summary tokens start from the
projector's output, so that one forward pass does what decoding would. Registered with the Auto
classes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaModel,
)
from transformers.models.llava.modeling_llava import LlavaModelOutputWithPast

from compressor.default_model.projector import (
    SERVING,
    CaptionHeads,
    ProjectorOutput,
    WordProjector,
)
from compressor.default_model.retrieval_head import PartedHead
from compressor.default_model.vision_tower import EfficientNetLiteConfig
from compressor.fwd2bot.model import SummaryLvlm
from compressor.fwd2bot.retrieval_head import EmbeddingHead


class WordLlavaConfig(LlavaConfig):
    """LlavaConfig and the sizes of the projector's heads. The field names are stored: they stay."""

    model_type = "word_llava"

    things: int = 1  # object names beyond the tower's classes
    colours: int = 11
    counts: int = 5
    captions: int = 1
    # Tokens of each text prefix of the projector.
    frame_sizes: list[int] | tuple[int, ...] = (1, 1, 1, 1, 1)


class WordLlavaModel(LlavaModel):
    """LLaVA whose projector also says where summary tokens (ids past the vocabulary) start."""

    config_class = WordLlavaConfig

    def __init__(self, config: WordLlavaConfig) -> None:
        super().__init__(config)
        text = config.get_text_config()
        projector = WordProjector(
            cast(EfficientNetLiteConfig, config.vision_config),
            config.things,
            config.colours,
            config.counts,
            config.captions,
            config.frame_sizes,
            text.hidden_size,
        )
        self.multi_modal_projector = projector  # type: ignore[assignment]  # not LLaVA's
        # Between a training step and the projector stand `forward` methods of transformers whose
        # arguments are fixed. This attribute carries the context past them; `out_of_fold` sets it
        # for one batch and puts back what was there.
        self.projector_context = SERVING

    @property
    def vocabulary_size(self) -> int:
        """Token ids from here on are summary tokens."""
        return int(self.config.get_text_config().vocab_size)

    def project(self, pixel_values: Tensor) -> ProjectorOutput:
        """(B, 3, H, W) pixels → words and tokens."""
        return self._projected(self.vision_tower(pixel_values).last_hidden_state)

    def get_image_features(self, pixel_values: Tensor, **_: Any) -> Any:
        """As in LLaVA; `pooler_output` is a list of (V, D) visual tokens."""
        outputs = self.vision_tower(pixel_values)
        outputs.pooler_output = list(
            self._projected(outputs.last_hidden_state).visual_tokens
        )
        return outputs

    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        projected: ProjectorOutput | None = None,
        inputs_embeds: Tensor | None = None,
        **kwargs: Any,
    ) -> LlavaModelOutputWithPast:
        """As in LLaVA; `projected` may stand for `pixel_values` where it was computed before."""
        if projected is None and pixel_values is not None and input_ids is not None:
            projected = self.project(pixel_values)
        if input_ids is not None and projected is not None:
            inputs_embeds = self.embed_with_images(input_ids, projected)
            input_ids = None
        output: LlavaModelOutputWithPast = super().forward(
            input_ids=input_ids,
            inputs_embeds=inputs_embeds,
            **kwargs,
        )
        return output

    def embed_with_images(
        self, input_ids: Tensor, projected: ProjectorOutput
    ) -> Tensor:
        """(B, T) ids → (B, T, D): visual tokens at their placeholders, and the projector's start
        added to the summary tokens.
        """
        embedded: Tensor = self.get_input_embeddings()(input_ids)
        # Visual tokens differ in number from run to run (`keep_cells`), so they go where the
        # processor left room.
        is_placeholder = (input_ids == self.config.image_token_id).unsqueeze(-1)
        visual_tokens = projected.visual_tokens.to(embedded.dtype)
        embedded = embedded.masked_scatter(is_placeholder, visual_tokens)
        number = input_ids - self.vocabulary_size
        # A prompt over all visual tokens, the uncompressed ceiling, has no summary tokens.
        if not (number >= 0).any():
            return embedded
        start = projected.summary_init
        last = start.shape[1] - 1
        index = (
            number.clamp(0, last)
            .unsqueeze(-1)
            .expand(
                -1,
                -1,
                embedded.shape[-1],
            )
        )
        has_start = ((number >= 0) & (number <= last)).unsqueeze(-1)
        return embedded + torch.where(
            has_start, start.gather(1, index).to(embedded.dtype), 0
        )

    def _projected(self, cells: Tensor) -> ProjectorOutput:
        projector = cast(WordProjector, self.multi_modal_projector)
        output: ProjectorOutput = projector(cells, self.projector_context)
        return output


class WordLlavaForConditionalGeneration(LlavaForConditionalGeneration):
    """The default model with its language-model head."""

    config_class = WordLlavaConfig
    model: WordLlavaModel
    # The projector compares scores with thresholds that were chosen in float32.
    _keep_in_fp32_modules_strict = ["vision_tower", "multi_modal_projector"]  # noqa: RUF012

    def __init__(self, config: WordLlavaConfig) -> None:
        super().__init__(config)
        self.model = WordLlavaModel(config)
        # Both are set where the model is trained: the names of the projector's rows, and caption
        # heads each fitted without one fold of the photographs.
        self.names: tuple[str, ...] = ()
        self.caption_folds: list[CaptionHeads] = []
        self.post_init()  # type: ignore[no-untyped-call]

    @property
    def projector(self) -> WordProjector:
        """The projector, by its type."""
        return cast(WordProjector, self.model.multi_modal_projector)

    def keep_cells(self, count: int, processor: Any) -> None:
        """Sees `count` cells of each picture, drawn anew each time; 0 sees all.

        The processor makes room for as many visual tokens.
        """
        self.model.projector_context = replace(
            self.model.projector_context, max_cells=count
        )
        # The processor writes one placeholder for each visual token into the prompt.
        left_out = self.projector.cell_tokens - count if count else 0
        processor.num_additional_image_tokens = self.projector.extra_tokens - left_out

    @contextmanager
    def out_of_fold(
        self, hidden: Sequence[Collection[str]], folds: Sequence[int | None]
    ) -> Iterator[None]:
        """Within, the projector predicts for each of B pictures out of fold (cross-fitting).

        Heads that were fitted to a picture are over-confident on it, and passes trained on their
        predictions would trust them too much. So the names in `hidden` are impossible, and caption
        heads are those that were fitted without the picture's fold. The projector's own serve a
        picture that is in no fold (None), and all pictures where there are no `caption_folds`.
        """
        before = self.model.projector_context
        self.model.projector_context = replace(
            before,
            hidden_names=self._hidden_rows(hidden) if any(hidden) else None,
            caption_heads=self._heads_of(folds) if self.caption_folds else None,
        )
        try:
            yield
        finally:
            self.model.projector_context = before

    def _hidden_rows(self, hidden: Sequence[Collection[str]]) -> Tensor:
        """(B, W) true where the name of a row is hidden."""
        # Classes have capitals ("Egyptian cat"), names of cut-outs have none.
        lower_case = [name.lower() for name in self.names]
        rows = [[name in names for name in lower_case] for names in hidden]
        return torch.tensor(rows, device=self.device)

    def _heads_of(self, folds: Sequence[int | None]) -> list[CaptionHeads]:
        own = CaptionHeads(self.projector.captions, self.projector.caption_embedding)
        return [own if fold is None else self.caption_folds[fold] for fold in folds]


def word_llava(base: nn.Module) -> WordLlavaForConditionalGeneration:
    """The base of a SummaryLvlm that `build` made, by its type."""
    return cast(WordLlavaForConditionalGeneration, base)


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
