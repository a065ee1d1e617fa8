"""A Hugging Face LVLM with summary tokens, two adapters, a readout and a retrieval head: all of Fwd2Bot's parts.

The same code runs the default model and any other that `AutoModelForImageTextToText` loads: hidden size, prompt
template, image placeholders and positions come from the model and its processor, never from its name.
Knows nothing of stores or HTTP. Shapes: B batch, K summary tokens, T text tokens, D hidden size, C channels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor, nn
from transformers import PreTrainedModel, ProcessorMixin

from compressor.adapters import StageAdapters, add_adapters
from compressor.errors import RequestTooLong
from compressor.readout import Readout
from compressor.retrieval_head import RetrievalHead
from compressor.summary_config import SummaryConfig
from compressor.summary_embedding import SummaryTokenEmbedding

MAX_TEXT_TOKENS = 512  # of a search text


@dataclass(frozen=True)
class FirstPass:
    """What the first pass gives for a batch, still with gradients where they are on."""

    tokens: Tensor  # (B, K, D) float32 summary tokens
    image_states: Tensor  # (B, C) what the retrieval head reads
    logits: Tensor | None  # (B, K, W) of the soft words; None for the "hidden" readout


@dataclass(frozen=True)
class Prompt:
    """A prompt with vectors in place of images, padded on the left."""

    embeddings: Tensor  # (B, T, D)
    mask: Tensor  # (B, T) 1 where there is a token
    lengths: list[int]  # tokens of each prompt, padding left out


class SummaryLvlm(nn.Module):
    """An LVLM that makes summary tokens and reads them. Adapters start untrained: they change nothing."""

    def __init__(self, model: PreTrainedModel, processor: ProcessorMixin, config: SummaryConfig):
        super().__init__()
        self.config, self.processor, self.tokenizer = config, processor, processor.tokenizer
        embedding = SummaryTokenEmbedding(model.get_input_embeddings(), config.token_count)
        embedding.initialise_from_words()
        self.lvlm = add_adapters(model, config.lora_rank, config.lora_alpha)
        model.set_input_embeddings(embedding)
        self.adapters = StageAdapters(self.lvlm)
        hidden_size = model.config.get_text_config().hidden_size
        self.embedding = embedding
        self.readout = Readout(config.readout, hidden_size, config.temperature)
        self.head = RetrievalHead(len(config.embedding_layers) * hidden_size, config.embedding_size)
        embedding.summary.requires_grad_(True)

    @property
    def base(self) -> PreTrainedModel:
        """The LVLM itself, adapters inside."""
        return self.lvlm.base_model.model

    @property
    def hidden_size(self) -> int:
        """D."""
        return int(self.base.config.get_text_config().hidden_size)

    @property
    def context_tokens(self) -> int:
        """Tokens that fit the language model's context."""
        return int(self.base.config.get_text_config().max_position_embeddings)

    @property
    def device(self) -> torch.device:
        """Where the inputs have to be."""
        return self.embedding.words.weight.device

    @property
    def image_token_id(self) -> int:
        """Id of the placeholder of an image."""
        return int(self.base.config.image_token_id)

    @property
    def end_id(self) -> int:
        """Id of the token that ends an answer."""
        ends = self.base.generation_config.eos_token_id
        return int(ends[0] if isinstance(ends, list) else ends)

    # First pass

    def first_pass_inputs(self, images: Sequence[Image]) -> dict[str, Tensor]:
        """Processor's inputs for B images: image tokens, summary prompt, then the K summary tokens."""
        text = self._render([{"role": "user", "content": _parts(1, self.config.summary_prompt)}], summarize=True)
        side, self.tokenizer.padding_side = self.tokenizer.padding_side, "left"
        try:
            inputs = self.processor(
                images=[[image] for image in images],
                text=[text] * len(images),
                return_tensors="pt",
                padding=True,
                add_special_tokens=self._adds_special_tokens(text),
            )
        finally:
            self.tokenizer.padding_side = side
        ids = inputs["input_ids"]
        summary = torch.arange(self.config.token_count) + self.embedding.first_summary_id
        inputs["input_ids"] = torch.cat([ids, summary.expand(len(ids), -1)], dim=1)
        ones = torch.ones(len(ids), self.config.token_count, dtype=inputs["attention_mask"].dtype)
        inputs["attention_mask"] = torch.cat([inputs["attention_mask"], ones], dim=1)
        return {name: self._to_device(value) for name, value in inputs.items()}

    def first_pass(self, inputs: dict[str, Tensor]) -> FirstPass:
        """Runs the LVLM under the first-pass adapter and reads the summary positions (Fwd2Bot, section 3)."""
        with self.adapters.use("first_pass"):
            outputs = self.base.base_model(**inputs, output_hidden_states=list(self._layers()), use_cache=False)
        count = self.config.token_count
        states = [outputs.hidden_states[layer][:, -count:] for layer in self.config.embedding_layers]
        tokens, logits = self.readout(
            outputs.last_hidden_state[:, -count:], self.base.get_output_embeddings(), self.embedding.weight
        )
        return FirstPass(tokens, torch.cat(states, dim=-1).float().mean(1), logits)

    def text_states(self, texts: Sequence[str]) -> Tensor:
        """(B, C) mean hidden states of B texts through the same language model and first-pass adapter."""
        inputs = self.tokenizer(list(texts), return_tensors="pt", padding=True, padding_side="right")
        mask = inputs["attention_mask"].to(self.device)
        if mask.shape[1] > MAX_TEXT_TOKENS:
            raise RequestTooLong(f"a search text may have {MAX_TEXT_TOKENS} tokens, this one has {mask.shape[1]}")
        with self.adapters.use("first_pass"):
            outputs = self.base.get_decoder()(
                inputs_embeds=self.embedding(inputs["input_ids"].to(self.device)),
                attention_mask=mask,
                output_hidden_states=list(self._layers()),
                use_cache=False,
            )
        states = torch.cat([outputs.hidden_states[layer] for layer in self.config.embedding_layers], dim=-1).float()
        weights = mask.unsqueeze(-1).float()
        return (states * weights).sum(1) / weights.sum(1)

    # Second pass

    def second_pass_prompt(self, images: Sequence[Sequence[Tensor]], conversations: Sequence[Sequence[tuple[str, str]]]
                           ) -> Prompt:
        """Prompts with (K, D) summary tokens where the image tokens would stand.

        `conversations` are (role, text) turns; the images stand before the text of the first. Raises RequestTooLong.
        """
        rows = [self.with_images(self.prompt_ids(len(i), c), i) for i, c in zip(images, conversations, strict=True)]
        return self.pad_left(rows)

    def prompt_ids(self, image_count: int, conversation: Sequence[tuple[str, str]]) -> list[int]:
        """Token ids of a conversation up to where the answer starts, each image one placeholder."""
        messages = []
        for number, (role, text) in enumerate(conversation):
            content = _parts(image_count if number == 0 else 0, text)
            messages.append({"role": role, "content": content})
        text = self._render(messages)
        return list(self.tokenizer(text, add_special_tokens=self._adds_special_tokens(text))["input_ids"])

    def prompt_ends_open(self) -> bool:
        """Whether an answer's first word comes after a space: the prompt does not end in white space."""
        return not self._render([{"role": "user", "content": _parts(1, "?")}])[-1].isspace()

    def pad_left(self, rows: Sequence[Tensor]) -> Prompt:
        """Stacks (T, D) rows of different lengths. Raises RequestTooLong."""
        lengths = [len(row) for row in rows]
        longest = max(lengths)
        if longest > self.context_tokens:
            raise RequestTooLong(f"the model's context holds {self.context_tokens} tokens, this needs {longest}")
        embeddings = rows[0].new_zeros(len(rows), longest, rows[0].shape[-1])
        mask = torch.zeros(len(rows), longest, dtype=torch.long, device=rows[0].device)
        for number, row in enumerate(rows):
            embeddings[number, longest - len(row) :] = row
            mask[number, longest - len(row) :] = 1
        return Prompt(embeddings, mask, lengths)

    def with_images(self, ids: Sequence[int], images: Sequence[Tensor]) -> Tensor:
        """(T, D) embeddings of ids, each image placeholder replaced by that image's vectors, any number of them."""
        pieces: list[Tensor] = []
        remaining, start = iter(images), 0
        words = self.embedding(torch.tensor([list(ids)], device=self.device))[0]
        for place, token in enumerate(ids):
            if token == self.image_token_id:
                vectors = next(remaining).to(words)
                pieces += [words[start:place], vectors]
                start = place + 1
        return torch.cat([*pieces, words[start:]])

    # Weights

    def trained_parameters(self) -> Iterable[tuple[str, nn.Parameter]]:
        """Names and parameters that training changes."""
        return ((name, parameter) for name, parameter in self.named_parameters() if parameter.requires_grad)

    # Helpers

    def _layers(self) -> Sequence[int]:
        return sorted({*self.config.embedding_layers})

    def _render(self, messages: list[dict[str, Any]], **options: bool) -> str:
        return str(self.processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False, **options))

    def _adds_special_tokens(self, text: str) -> bool:
        start = self.tokenizer.bos_token
        return start is None or not text.startswith(start)

    def _to_device(self, value: Any) -> Any:
        return value.to(self.device) if isinstance(value, Tensor) else value


def _parts(image_count: int, text: str) -> list[dict[str, str]]:
    return [*({"type": "image"} for _ in range(image_count)), {"type": "text", "text": text}]
