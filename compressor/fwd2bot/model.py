"""A Hugging Face LVLM with summary tokens, two adapters, a readout and a retrieval head: all of
Fwd2Bot's parts.

The same code runs the default model and any other that `AutoModelForImageTextToText` loads: hidden
size, prompt template, image placeholders and positions come from the model and its processor, never
from its name. Knows nothing of stores or HTTP. Shapes: B batch, K summary tokens, T text tokens, D
hidden size, C channels.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from PIL.Image import Image
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel, ProcessorMixin

from compressor.errors import RequestTooLong
from compressor.fwd2bot.adapters import MergedAdapters, StageAdapters, add_adapters, merge_adapters
from compressor.fwd2bot.config import ReadoutKind, SummaryConfig
from compressor.fwd2bot.retrieval_head import RetrievalHead

# How the hidden states at the summary positions become summary tokens. `hidden` is Fwd2Bot's (arXiv
# 2503.21757): the last hidden states themselves. `soft_words` reads the model's own output
# distribution back through its input embeddings, so that an untrained second pass understands the
# tokens at once: what a summary position reads is a draft, the position before it says which word
# the model would have written there, and the summary token is a mixture of both.
# `soft_words_in_turn` lets the model write: each soft word is read before the next is made, so
# there are no drafts (lvlm.py decodes them). Shapes: B batch, K summary tokens, D hidden size, W
# words.


class Readout(nn.Module):
    """Hidden states → (B, K, D) summary tokens. Training moves each position's share of its soft word."""

    def __init__(
        self,
        kind: ReadoutKind,
        token_count: int,
        temperature: float,
        soft_word_share: float,
    ) -> None:
        super().__init__()
        self.kind, self.temperature = kind, temperature
        self.soft_word_share = nn.Parameter(torch.full((token_count, 1), soft_word_share))

    def forward(
        self, hidden: Tensor, before: Tensor, drafts: Tensor, output_head: nn.Module, words: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Summary tokens and, for soft words, the (B, K, W) logits they were mixed by.

        All (B, K, D): `hidden` last states at the summary positions, `before` one position earlier,
        `drafts` what the summary positions read. `words` is the (W, D) input embedding matrix.
        """
        if self.kind == "hidden":
            return hidden.float(), None
        written, logits = self.soft_words(before, output_head, words)
        return torch.lerp(drafts.float(), written, self.soft_word_share), logits

    def soft_words(
        self, states: Tensor, output_head: nn.Module, words: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(B, K, D) last states → the (B, K, D) mixtures of words that the model writes next, and
        their logits.
        """
        logits = output_head(states)
        mixture = torch.softmax(logits.float() / self.temperature, dim=-1).to(words.dtype)
        return (mixture @ words).float(), logits


# Input embedding of a language model with K summary tokens behind its vocabulary. The vocabulary
# and the tied output head stay as they are: ids from `vocabulary size` on are the summary tokens'.


class SummaryTokenEmbedding(nn.Module):
    """Wraps the model's own embedding; rows of summary tokens are the only trained ones."""

    def __init__(self, words: nn.Embedding, token_count: int) -> None:
        super().__init__()
        self.words = words
        self.summary = nn.Parameter(
            torch.zeros(token_count, words.embedding_dim, dtype=torch.float32)
        )

    @property
    def weight(self) -> Tensor:
        """(vocabulary, D) embedding matrix of the words alone: what the output head may be tied to."""
        return self.words.weight

    @property
    def first_summary_id(self) -> int:
        """Id of summary token 0."""
        return self.words.num_embeddings

    def forward(self, ids: Tensor) -> Tensor:
        """(B, T) ids → (B, T, D)."""
        is_summary = ids >= self.first_summary_id
        embedded = self.words(ids.masked_fill(is_summary, 0))
        rows = self.summary.to(embedded.dtype)[(ids - self.first_summary_id).clamp(min=0)]
        return torch.where(is_summary.unsqueeze(-1), rows, embedded)

    def initialise_from_words(self) -> None:
        """Starts all summary tokens at the mean word, where the language model expects its inputs to be."""
        with torch.no_grad():
            self.summary.copy_(self.words.weight.float().mean(0).expand_as(self.summary))


MAX_TEXT_TOKENS = 512  # of a search text


@dataclass(frozen=True)
class FirstPass:
    """What the first pass gives for a batch, still with gradients where they are on."""

    tokens: Tensor  # (B, K, D) float32 summary tokens
    hidden_states: Tensor | None  # (B, K, C) what the retrieval head reads; None for a baseline
    logits: Tensor | None  # (B, K, W) of the soft words; None for the "hidden" readout


@dataclass(frozen=True)
class Prompt:
    """Prompts with vectors in place of images, padded on the left."""

    inputs_embeds: Tensor  # (B, T, D)
    attention_mask: Tensor  # (B, T) 1 where there is a token
    # (B, T), or (axes, B, T) where the model has positions of its own for images.
    position_ids: Tensor
    lengths: list[int]  # tokens of each prompt, padding left out

    @property
    def inputs(self) -> dict[str, Tensor]:
        """The language model's keyword arguments."""
        return {
            "inputs_embeds": self.inputs_embeds,
            "attention_mask": self.attention_mask,
            "position_ids": self.position_ids,
        }


class SummaryLvlm(nn.Module):
    """An LVLM that makes summary tokens and reads them. Adapters start untrained: they change nothing."""

    def __init__(
        self, model: PreTrainedModel, processor: ProcessorMixin, config: SummaryConfig
    ) -> None:
        super().__init__()
        self.config, self.processor, self.tokenizer = config, processor, processor.tokenizer
        embedding = SummaryTokenEmbedding(
            cast(nn.Embedding, model.get_input_embeddings()), config.token_count
        )
        embedding.initialise_from_words()
        self.lvlm = add_adapters(model, config.lora_rank, config.lora_alpha)
        model.set_input_embeddings(embedding)
        self.adapters: StageAdapters | MergedAdapters = StageAdapters(self.lvlm)
        hidden_size = model.config.get_text_config().hidden_size
        self.embedding = embedding
        self.readout = Readout(
            config.readout, config.token_count, config.temperature, config.soft_word_share
        )
        self.head = RetrievalHead(
            config.embedding_layers,
            hidden_size,
            config.embedding_size,
            config.token_count,
            config.embedding_parts,
        )
        embedding.summary.requires_grad_(True)
        # A template may know that a prompt is the first pass's; one that does not is not told, and
        # does not complain.
        self._summarize = {"summarize": True} if "summarize" in str(processor.chat_template) else {}
        specials = {
            token.content for token in self.tokenizer.added_tokens_decoder.values() if token.special
        }
        specials.add(self.tokenizer.convert_ids_to_tokens(self.image_token_id))
        self._specials = re.compile(
            "|".join(map(re.escape, sorted(specials, key=len, reverse=True)))
        )

    @property
    def base(self) -> PreTrainedModel:
        """The LVLM itself, adapters inside."""
        return cast(PreTrainedModel, self.lvlm.base_model.model)

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
    def end_ids(self) -> tuple[int, ...]:
        """Ids of the tokens that end an answer; training teaches the first."""
        ends = self.base.generation_config.eos_token_id
        return tuple(ends) if isinstance(ends, list) else (int(ends),)

    # First pass

    def first_pass_inputs(
        self, images: Sequence[Image], device: torch.device | None = None
    ) -> dict[str, Tensor]:
        """Processor's inputs for B images: image tokens, summary prompt, then the K summary tokens.

        On `device`, or the model's: a worker process of training stays on the CPU.

        Where soft words are decoded in turn, the summary tokens are not there: the words take their
        places.
        """
        text = self._render(
            [{"role": "user", "content": _parts(1, self.config.summary_prompt)}], **self._summarize
        )
        inputs = self._processed([[image] for image in images], [text] * len(images), device)
        if self.config.readout == "soft_words_in_turn":
            return inputs
        ids = inputs["input_ids"]
        summary = (
            torch.arange(self.config.token_count, device=ids.device)
            + self.embedding.first_summary_id
        )
        # Whatever else the processor says of each token (its modality, say), summary tokens are
        # plain tokens: 0.
        per_token = [
            name
            for name, value in inputs.items()
            if isinstance(value, Tensor) and value.shape == ids.shape
        ]
        added = {"input_ids": summary, "attention_mask": torch.ones_like(summary)}
        for name in per_token:
            values = added.get(name, torch.zeros_like(summary)).to(inputs[name].dtype)
            inputs[name] = torch.cat([inputs[name], values.expand(len(ids), -1)], dim=1)
        return inputs

    def first_pass(self, inputs: dict[str, Tensor], frozen: bool = False) -> FirstPass:
        """Runs the LVLM under the first-pass adapter and reads the summary positions (Fwd2Bot, section 3).

        `frozen` keeps gradients out of the LVLM, not out of the readout.
        """
        with (
            self.adapters.use("first_pass"),
            torch.set_grad_enabled(torch.is_grad_enabled() and not frozen),
        ):
            if self.config.readout == "soft_words_in_turn":
                return self._decoded_in_turn(inputs)
            layers = sorted({0, *self.config.embedding_layers})
            outputs = self.base.base_model(**inputs, output_hidden_states=layers, use_cache=False)
        count = self.config.token_count
        states = [
            outputs.hidden_states[layer][:, -count:] for layer in self.config.embedding_layers
        ]
        last = outputs.last_hidden_state
        tokens, logits = self.readout(
            last[:, -count:],
            last[:, -count - 1 : -1],
            outputs.hidden_states[0][:, -count:],
            self.base.get_output_embeddings(),
            self.embedding.weight,
        )
        return FirstPass(tokens, torch.cat(states, dim=-1).float(), logits)

    def _decoded_in_turn(self, inputs: dict[str, Tensor]) -> FirstPass:
        """K soft words, each the next input: an answer decoded in mixtures of words in place of words.

        The retrieval head reads the states of the positions that read them.
        """
        prompt = self._prompt_of(inputs)
        cache = DynamicCache(config=self.base.config.get_text_config())
        embeddings, mask = prompt.inputs_embeds, prompt.attention_mask
        positions = prompt.position_ids
        words: list[tuple[Tensor, Tensor]] = []
        states = []
        while True:
            outputs = self.base.get_decoder()(
                inputs_embeds=embeddings,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                output_hidden_states=list(self._layers()),
            )
            if words:
                layers = [outputs.hidden_states[layer] for layer in self.config.embedding_layers]
                states.append(torch.cat(layers, dim=-1).float())
            if len(words) == self.config.token_count:
                break
            last = outputs.last_hidden_state[:, -1:]
            words.append(
                self.readout.soft_words(
                    last, self.base.get_output_embeddings(), self.embedding.weight
                )
            )
            embeddings = words[-1][0].to(prompt.inputs_embeds.dtype)
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
            positions = positions[..., -1:] + 1  # the summary prompt is text, where all axes agree
        tokens, logits = (torch.cat(parts, dim=1) for parts in zip(*words, strict=True))
        return FirstPass(tokens, torch.cat(states, dim=1), logits)

    def text_states(self, texts: Sequence[str]) -> Tensor:
        """(B, C) mean hidden states of B texts through the same language model and first-pass adapter."""
        plain = [self._without_specials(text) for text in texts]
        inputs = self.tokenizer(plain, return_tensors="pt", padding=True, padding_side="right")
        mask = inputs["attention_mask"].to(self.device)
        if mask.shape[1] > MAX_TEXT_TOKENS:
            raise RequestTooLong(
                f"a search text may have {MAX_TEXT_TOKENS} tokens, this one has {mask.shape[1]}"
            )
        with self.adapters.use("first_pass"):
            outputs = self.base.get_decoder()(
                inputs_embeds=self.embedding(inputs["input_ids"].to(self.device)),
                attention_mask=mask,
                output_hidden_states=list(self._layers()),
                use_cache=False,
            )
        states = torch.cat(
            [outputs.hidden_states[layer] for layer in self.config.embedding_layers], dim=-1
        ).float()
        weights = mask.unsqueeze(-1).float()
        return (states * weights).sum(1) / weights.sum(1).clamp(
            min=1
        )  # a text may have no token at all

    # Second pass

    def second_pass(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """(B, T, D) last hidden states of the LLM under the second adapter (Fwd2Bot, section 3).

        `inputs` are a Prompt's or a packed batch's.
        """
        with self.adapters.use("second_pass"):
            outputs = self.base.base_model(**inputs, use_cache=False)
        hidden: Tensor = outputs.last_hidden_state
        return hidden

    def second_pass_prompt(
        self, images: Sequence[Sequence[Tensor]], conversations: Sequence[Sequence[tuple[str, str]]]
    ) -> Prompt:
        """Prompts with (K, D) summary tokens where the image tokens would stand.

        `conversations` are (role, text) turns; the images stand before the text of the first.
        Raises RequestTooLong.
        """
        rows = [
            self.with_images(self.prompt_ids(len(i), c), i)
            for i, c in zip(images, conversations, strict=True)
        ]
        return self.pad_left(rows)

    def prompt_ids(self, image_count: int, conversation: Sequence[tuple[str, str]]) -> list[int]:
        """Token ids of a conversation up to where the answer starts, each image one placeholder."""
        return self._ids(self._render(self._messages(image_count, conversation)))

    def prompt_ends_open(self) -> bool:
        """Whether an answer's first word comes after a space: the prompt does not end in white space."""
        return not self._render([{"role": "user", "content": _parts(1, "?")}])[-1].isspace()

    def pad_left(self, rows: Sequence[Tensor]) -> Prompt:
        """Stacks (T, D) rows of different lengths. Raises RequestTooLong."""
        lengths = [len(row) for row in rows]
        longest = max(lengths)
        if longest > self.context_tokens:
            raise RequestTooLong(
                f"the model's context holds {self.context_tokens} tokens, this needs {longest}"
            )
        embeddings = rows[0].new_zeros(len(rows), longest, rows[0].shape[-1])
        mask = torch.zeros(len(rows), longest, dtype=torch.long, device=rows[0].device)
        for number, row in enumerate(rows):
            embeddings[number, longest - len(row) :] = row
            mask[number, longest - len(row) :] = 1
        return Prompt(embeddings, mask, (mask.cumsum(1) - 1).clamp(min=0), lengths)

    def with_images(self, ids: Sequence[int], images: Sequence[Tensor]) -> Tensor:
        """(T, D) embeddings of ids, each image placeholder replaced by that image's vectors, any
        number of them.

        Raises ValueError unless there are as many placeholders as images.
        """
        if list(ids).count(self.image_token_id) != len(images):
            raise ValueError(
                f"{list(ids).count(self.image_token_id)} places for {len(images)} images"
            )
        pieces: list[Tensor] = []
        remaining, start = iter(images), 0
        words = self.embedding(torch.tensor([list(ids)], device=self.device))[0]
        for place, token in enumerate(ids):
            if token == self.image_token_id:
                vectors = next(remaining).to(words)
                pieces += [words[start:place], vectors]
                start = place + 1
        return torch.cat([*pieces, words[start:]])

    # The model as it was, without a first pass: what summary tokens are measured against

    def visual_vectors(self, images: Sequence[Image]) -> list[Tensor]:
        """(V, D) of each image: what the model itself puts in the place of the image's one placeholder.

        Beside the visual tokens that may be words, such as those that open and close the rows of
        tiles.
        """
        text = self._render(self._messages(1, [("user", "?")]))
        ids = self._ids(text)
        before = ids.index(self.image_token_id)
        behind = len(ids) - before - 1
        prompt = self._own_prompt([[image] for image in images], [text] * len(images))
        rows = [
            row[-length:] for row, length in zip(prompt.inputs_embeds, prompt.lengths, strict=True)
        ]
        return [row[before : len(row) - behind] for row in rows]

    def uncompressed_prompt(
        self, images: Sequence[Sequence[Image]], conversations: Sequence[Sequence[tuple[str, str]]]
    ) -> Prompt:
        """Like `second_pass_prompt`, with all visual tokens, at the positions that the model itself
        gives them.
        """
        texts = [
            self._render(self._messages(len(i), c))
            for i, c in zip(images, conversations, strict=True)
        ]
        return self._own_prompt(images, texts)

    def _own_prompt(self, images: Sequence[Sequence[Image]], texts: Sequence[str]) -> Prompt:
        return self._prompt_of(self._processed(images, texts))

    def _prompt_of(self, inputs: dict[str, Tensor]) -> Prompt:
        """The processor's inputs as the language model reads them."""
        given = self._decoder_inputs(inputs)
        mask = inputs["attention_mask"]
        positions = given.get("position_ids")
        if positions is None:
            positions = (mask.cumsum(1) - 1).clamp(min=0)
        return Prompt(given["inputs_embeds"], mask, positions, mask.sum(1).tolist())

    def _decoder_inputs(self, inputs: dict[str, Tensor]) -> dict[str, Any]:
        """What the LVLM hands to its language model, which does not run.

        Models agree on this one call; how they come to it (tiles, grids, positions) is their own
        affair.
        """
        given: dict[str, Any] = {}

        def take(_module: nn.Module, _args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            given.update(kwargs)
            raise _Taken

        hook = self.base.get_decoder().register_forward_pre_hook(take, with_kwargs=True)
        try:
            self.base.base_model(**inputs, use_cache=False)
        except _Taken:
            pass
        finally:
            hook.remove()
        return given

    # Weights

    def merge_adapters(self) -> None:
        """Folds both adapters into the weights for serving: no more training or saving. Raises
        ValueError twice.
        """
        self.adapters = merge_adapters(self.lvlm)

    def trained_parameters(self) -> Iterable[tuple[str, nn.Parameter]]:
        """Names and parameters that training changes."""
        return (
            (name, parameter)
            for name, parameter in self.named_parameters()
            if parameter.requires_grad
        )

    # Helpers

    def _processed(
        self,
        images: Sequence[Sequence[Image]],
        texts: Sequence[str],
        device: torch.device | None = None,
    ) -> dict[str, Any]:
        """The processor's inputs for rendered texts with placeholders, padded on the left, on
        `device` or the model's.
        """
        side, self.tokenizer.padding_side = self.tokenizer.padding_side, "left"
        try:
            inputs = self.processor(
                images=[list(row) for row in images],
                text=list(texts),
                return_tensors="pt",
                padding=True,
                add_special_tokens=self._adds_special_tokens(texts[0]),
            )
        finally:
            self.tokenizer.padding_side = side
        place = device or self.device
        return {
            name: value.to(place) if isinstance(value, Tensor) else value
            for name, value in inputs.items()
        }

    def _messages(
        self, image_count: int, conversation: Sequence[tuple[str, str]]
    ) -> list[dict[str, Any]]:
        return [
            {
                "role": role,
                "content": _parts(image_count if number == 0 else 0, self._without_specials(text)),
            }
            for number, (role, text) in enumerate(conversation)
        ]

    def _without_specials(self, text: str) -> str:
        """The text with special tokens taken apart: a placeholder or an end that somebody typed is
        only text.
        """
        return self._specials.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text)

    def _ids(self, text: str) -> list[int]:
        return list(
            self.tokenizer(text, add_special_tokens=self._adds_special_tokens(text))["input_ids"]
        )

    def _layers(self) -> Sequence[int]:
        return sorted({*self.config.embedding_layers})

    def _render(self, messages: list[dict[str, Any]], **options: Any) -> str:
        return str(
            self.processor.apply_chat_template(
                messages, add_generation_prompt=True, tokenize=False, **options
            )
        )

    def _adds_special_tokens(self, text: str) -> bool:
        start = self.tokenizer.bos_token
        return start is None or not text.startswith(start)


class _Taken(Exception):  # noqa: N818
    """Ends a forward pass whose rest is not needed."""


def _parts(image_count: int, text: str) -> list[dict[str, str]]:
    return [*({"type": "image"} for _ in range(image_count)), {"type": "text", "text": text}]
