"""A Hugging Face LVLM with summary tokens, two adapters, a readout and a retrieval head.

The same code runs every model that `AutoModelForImageTextToText` loads: hidden size, prompt
template, image placeholders and positions come from the model and its processor, never from its
name. Shapes: B batch, K summary tokens, V visual tokens, T text tokens, D hidden size, C channels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import torch
from PIL.Image import Image
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import PreTrainedModel, ProcessorMixin

from compressor.errors import (
    BaselineUnavailable,
    ImageRefused,
)
from compressor.fwd2bot import single_forward
from compressor.fwd2bot.adapters import (
    MergedAdapters,
    StageAdapters,
    add_adapters,
    merge_adapters,
)
from compressor.fwd2bot.config import (
    ForwardKind,
    ReadoutKind,
    SummaryConfig,
)
from compressor.fwd2bot.decoding import Decoding, prompt_of
from compressor.fwd2bot.prompts import (
    MAX_TEXT_TOKENS,
    Conversation,
    Prompt,
    PromptRenderer,
    Turns,
    pad_left,
)
from compressor.fwd2bot.retrieval_head import RetrievalHead, TextStates
from compressor.fwd2bot.summary_tokens import Readout, SummaryTokenEmbedding
from compressor.text import normalise_text

# What an image processor raises for a picture that it does not read: too long and thin, empty.
_REFUSALS = (ValueError, ZeroDivisionError, IndexError, RuntimeError)


@dataclass(frozen=True)
class FirstPass:
    """What the first pass gives for a batch, still with gradients where they are on."""

    tokens: Tensor  # (B, K, D) float32 summary tokens; (B, K, S) in single forward
    hidden_states: (
        Tensor | None
    )  # (B, K, C) what the retrieval head reads; None for a baseline
    logits: Tensor | None  # (B, K, W) of the soft words; None for the "hidden" readout


@dataclass(frozen=True)
class TextWords:
    """The tokens of B texts."""

    ids: Tensor  # (B, T), padded on the right
    mask: Tensor  # (B, T) 1 for what the language model reads, 0 for padding
    counted: Tensor  # (B, T) float32, 0 also for tokens that the tokenizer adds


@dataclass(frozen=True)
class ImageInputs:
    """The processor's inputs for B prompts with an image each, and where the images stand."""

    inputs: dict[str, Any]
    before: int  # tokens before the image in an unpadded prompt
    behind: int  # tokens behind it


@dataclass(frozen=True)
class ImageSpans:
    """An uncompressed prompt, and which of its positions stand for each image."""

    prompt: Prompt  # of B images, one each
    spans: list[range]  # B, in the padded rows

    def rows(self, values: Tensor) -> list[Tensor]:
        """(B, T, …) → B times (V, …), the images' own."""
        pairs = zip(values, self.spans, strict=True)
        return [row[span.start : span.stop] for row, span in pairs]


class SummaryLvlm(nn.Module):
    """An LVLM that makes summary tokens and reads them. Untrained adapters change nothing."""

    def __init__(
        self, model: PreTrainedModel, processor: ProcessorMixin, config: SummaryConfig
    ) -> None:
        super().__init__()
        self.config = config
        self.processor = processor
        self.tokenizer = processor.tokenizer
        words = cast(nn.Embedding, model.get_input_embeddings())
        embedding = SummaryTokenEmbedding(words, config.token_count)
        embedding.start_around_mean_word()
        self.lvlm = add_adapters(
            model,
            config.lora_rank,
            config.lora_alpha,
            config.target_modules,
            config.adapters,
        )
        model.set_input_embeddings(embedding)
        self.adapters: StageAdapters | MergedAdapters = StageAdapters(
            self.lvlm, config.adapters
        )
        self.embedding = embedding
        self.readout = Readout(config.readout, config.temperature)
        self.head = RetrievalHead(
            len(config.embedding_layers) * self.hidden_size,
            config.embedding_size,
            config.token_count,
            config.pooling,
            # The tokens of the "hidden" readout, and the states of single forward, are no words.
            words.weight.detach() if config.has_soft_words else None,
        )
        embedding.summary.requires_grad_(True)
        self.prompts = PromptRenderer(processor, self.image_token_id)

    @property
    def base(self) -> PreTrainedModel:
        """The LVLM itself, adapters inside."""
        return cast(PreTrainedModel, self.lvlm.base_model.model)

    @property
    def decoder(self) -> nn.Module:
        """The language model's layers, adapters inside, without the output head."""
        return cast(nn.Module, self.base.get_decoder())

    @property
    def output_head(self) -> nn.Module:
        """From last hidden states to logits."""
        return cast(nn.Module, self.base.get_output_embeddings())

    @property
    def hidden_size(self) -> int:
        """D."""
        return int(self.base.config.get_text_config().hidden_size)

    @property
    def token_size(self) -> int:
        """How many numbers a summary token has: D, or S in single forward."""
        if self.config.forward == ForwardKind.SINGLE:
            return single_forward.states_size(self.base.config.get_text_config())
        return self.hidden_size

    @property
    def context_tokens(self) -> int:
        """Tokens that fit the language model's context."""
        return int(self.base.config.get_text_config().max_position_embeddings)

    @property
    def device(self) -> torch.device:
        """Where the inputs have to be."""
        return self.embedding.words.weight.device

    @property
    def backend_tokenizer(self) -> Tokenizer:
        """The tokenizer itself, without what Transformers adds to it."""
        return cast(Tokenizer, self.tokenizer.backend_tokenizer)

    @property
    def image_token_id(self) -> int:
        """Id of the placeholder of an image."""
        return int(self.base.config.image_token_id)

    @property
    def patch_px(self) -> int:
        """Side of the square of pixels behind a visual token."""
        config = self.base.config
        vision = config.vision_config
        patch = getattr(self.processor, "patch_size", None) or vision.patch_size
        # Qwen and Idefics (SmolVLM) merge neighbouring patches under different names.
        merged = getattr(vision, "spatial_merge_size", None) or getattr(
            config, "scale_factor", 1
        )
        size_px: int = patch * merged
        return size_px

    @cached_property
    def end_ids(self) -> tuple[int, ...]:
        """Ids of the tokens that end an answer; training teaches the first.

        What the chat template closes an answer with comes before what the generation config names:
        the two differ where a chat model kept its base model's end of text.
        """
        ends: Any = self.base.generation_config.eos_token_id
        own = [int(end) for end in (ends if isinstance(ends, list) else [ends])]
        closing = self.prompts.end_of_turn_id
        if closing is not None:
            own = [closing, *own]
        return tuple(dict.fromkeys(own))

    # First pass

    def first_pass_inputs(
        self, images: Sequence[Image], device: torch.device | None = None
    ) -> dict[str, Tensor]:
        """Processor's inputs for B images: image tokens, summary prompt, then the K summary tokens.

        On `device`, or the model's: processes that prepare training samples stay on the CPU.

        Where soft words are decoded in turn, the summary tokens are not there: the words take their
        places. Raises ImageRefused.
        """
        inputs = self._summary_inputs(images, device)
        if self.config.readout == ReadoutKind.SOFT_WORDS_IN_TURN:
            return inputs
        ids = inputs["input_ids"]
        numbers = torch.arange(self.config.token_count, device=ids.device)
        summary = numbers + self.embedding.first_summary_id
        # Whatever else the processor says of each token (its modality, say), summary tokens are
        # plain tokens: 0.
        added = {"input_ids": summary, "attention_mask": torch.ones_like(summary)}
        for name, value in list(inputs.items()):
            if not isinstance(value, Tensor) or value.shape != ids.shape:
                continue
            columns = added.get(name, torch.zeros_like(summary))
            rows = columns.to(value.dtype).expand(len(ids), -1)
            inputs[name] = torch.cat([value, rows], dim=1)
        return inputs

    def _summary_inputs(
        self, images: Sequence[Image], device: torch.device | None = None
    ) -> dict[str, Any]:
        message = self.prompts.messages(1, [("user", self.config.summary_prompt)])
        text = self.prompts.render(message)
        return self._to_device(self._taken(images, text), device)

    def _taken(
        self, images: Sequence[Image], text: str, **image_options: Any
    ) -> dict[str, Any]:
        """The processor's inputs for an image in each prompt `text`. Raises ImageRefused."""
        try:
            return self.prompts.processed(
                [[image] for image in images], [text] * len(images), **image_options
            )
        except _REFUSALS as error:
            # The processor does not say which picture it was: each is tried alone.
            for index, image in enumerate(images):
                try:
                    self.prompts.processed([[image]], [text], **image_options)
                except _REFUSALS as refusal:
                    reason = str(refusal).splitlines()[0]
                    raise ImageRefused(index, reason) from error
            raise

    def first_pass(self, inputs: dict[str, Tensor], frozen: bool = False) -> FirstPass:
        """Runs the LVLM under the first-pass adapter and reads the summary positions.

        Fwd2Bot, section 3. `frozen` keeps gradients out of the LVLM, not out of the readout.
        """
        gradients = torch.is_grad_enabled() and not frozen
        with self.adapters.use("first_pass"), torch.set_grad_enabled(gradients):
            if self.config.readout == ReadoutKind.SOFT_WORDS_IN_TURN:
                return self._decoded_in_turn(inputs)
            if self.config.forward == ForwardKind.SINGLE:
                return self._single_forward(inputs)
            outputs = self.base.base_model(
                **inputs, output_hidden_states=self._layers(), use_cache=False
            )
        count = self.config.token_count
        # Prompts are padded on the left, so the summary tokens are the last of every row.
        at_summary = slice(-count, None)
        # The place before predicts what stands at a place, so soft words are read from there.
        one_earlier = slice(-count - 1, -1)
        last = outputs.last_hidden_state
        tokens, logits = self.readout(
            hidden=last[:, at_summary],
            before=last[:, one_earlier],
            output_head=self.output_head,
            words=self.embedding.weight,
        )
        states = self._concatenated(outputs.hidden_states)[:, at_summary]
        return FirstPass(tokens, states, logits)

    def _single_forward(self, inputs: dict[str, Tensor]) -> FirstPass:
        """The same pass, of which all layers' states at the summary positions are kept."""
        prompt = single_forward.counted_from_end(self._prompt_of(inputs))
        outputs = self.decoder(
            **prompt.inputs, output_hidden_states=self._layers(), use_cache=True
        )
        count = self.config.token_count
        tokens = single_forward.last_states(outputs.past_key_values, count)
        states = self._concatenated(outputs.hidden_states)[:, -count:]
        return FirstPass(tokens, states, logits=None)

    def _decoded_in_turn(self, inputs: dict[str, Tensor]) -> FirstPass:
        """K soft words, each the next input: an answer decoded in mixtures of words.

        The retrieval head reads the states of the positions that read the soft words.
        """
        prompt = self._prompt_of(inputs)
        decoding = Decoding(self.decoder, prompt)
        words: list[tuple[Tensor, Tensor]] = []
        states = []
        embeddings = None
        # K + 1 steps for K words: the head reads the states of positions that read a soft word, and
        # the last word is read in a step of its own.
        while True:
            outputs = decoding.step(embeddings, output_hidden_states=self._layers())
            if words:
                states.append(self._concatenated(outputs.hidden_states))
            if len(words) == self.config.token_count:
                break
            last = outputs.last_hidden_state[:, -1:]
            words.append(
                self.readout.soft_words(last, self.output_head, self.embedding.weight)
            )
            embeddings = words[-1][0]
        tokens = torch.cat([word for word, _ in words], dim=1)
        logits = torch.cat([scores for _, scores in words], dim=1)
        return FirstPass(tokens, torch.cat(states, dim=1), logits)

    def text_states(self, texts: Sequence[str]) -> TextStates:
        """Mean hidden states of B texts, under the first-pass adapter as images are; their words.

        Texts are read in the form of `normalise_text`.
        Tokens that the tokenizer adds (a start of sequence) are read but left out of the mean: they
        are the same for every text, and their states are often many times larger. A text of more
        than MAX_TEXT_TOKENS is read by its beginning.
        """
        words = self.text_words(texts)
        embeddings = self.embedding(words.ids)
        with self.adapters.use("first_pass"):
            outputs = self.decoder(
                inputs_embeds=embeddings,
                attention_mask=words.mask,
                output_hidden_states=self._layers(),
                use_cache=False,
            )
        states = self._concatenated(outputs.hidden_states)
        weights = words.counted.unsqueeze(-1)
        total = (states * weights).sum(1)
        # A text may have no token at all.
        count = weights.sum(1).clamp(min=1)
        return TextStates(total / count, embeddings.float(), words.counted)

    def text_words(self, texts: Sequence[str]) -> TextWords:
        """The tokens of B texts as `text_states` reads them."""
        # Here and not at the callers: queries, evaluation and the captions of the contrastive loss
        # must reach the language model in one form.
        plain = [self.prompts.without_specials(normalise_text(text)) for text in texts]
        inputs = self.tokenizer(
            plain,
            return_tensors="pt",
            padding=True,
            # The decoder counts positions from the start of a row, so a text starts there; causal
            # attention keeps the padding behind it out of its states.
            padding_side="right",
            # Cut off, as text encoders for retrieval do, rather than refused: nobody who types a
            # text knows how many tokens it has.
            truncation=True,
            max_length=MAX_TEXT_TOKENS,
            return_special_tokens_mask=True,
        )
        mask = inputs["attention_mask"].to(self.device)
        added = inputs["special_tokens_mask"].to(self.device)
        ids = inputs["input_ids"].to(self.device)
        return TextWords(ids, mask, (mask * (1 - added)).float())

    def _layers(self) -> list[int]:
        return sorted({*self.config.embedding_layers})

    def _concatenated(self, hidden_states: Mapping[int, Tensor]) -> Tensor:
        """(B, T, C) of the layers that the retrieval head reads."""
        layers = [hidden_states[layer] for layer in self.config.embedding_layers]
        return torch.cat(layers, dim=-1).float()

    # Second pass

    def second_pass(self, inputs: Mapping[str, Any]) -> Tensor:
        """(B, T, D) last hidden states of the LLM under the second adapter (Fwd2Bot, section 3).

        `inputs` are a Prompt's or a packed batch's.
        """
        with self.adapters.use("second_pass"):
            # The decoder itself: a model's own forward would drop what it cannot compute from
            # embeddings, such as visual features for the first layers.
            outputs = self.decoder(**inputs, use_cache=False)
        hidden: Tensor = outputs.last_hidden_state
        return hidden

    def second_pass_prompt(
        self, images: Sequence[Sequence[Tensor]], conversations: Sequence[Turns]
    ) -> Prompt:
        """Prompts with (K, D) summary tokens where the image tokens would stand.

        `conversations` are (role, text) turns; the images stand before the text of the first.
        Raises RequestTooLong.
        """
        rows = []
        in_layers = self.config.forward == ForwardKind.SINGLE
        for vectors, turns in zip(images, conversations, strict=True):
            ids = self.prompt_ids(len(vectors), turns)
            if in_layers:
                ids = [token for token in ids if token != self.image_token_id]
            rows.append(self.with_images(ids, [] if in_layers else vectors))
        prompt = self.pad_left(rows)
        if in_layers:
            states = torch.stack([torch.cat(list(vectors)) for vectors in images])
            return single_forward.behind(states, prompt)
        return prompt

    def prompt_ids(self, image_count: int, conversation: Turns) -> list[int]:
        """Token ids of a conversation up to where the answer starts, each image one placeholder."""
        return self.prompts.prompt_ids(image_count, conversation)

    def conversation(self, image_count: int, turns: Turns) -> Conversation:
        """Token ids of a conversation with its answers, and which of them training predicts.

        The last turn is the assistant's. Raises ConversationInvalid.
        """
        return self.prompts.conversation(image_count, turns, self.end_ids[0])

    def pad_left(self, rows: Sequence[Tensor]) -> Prompt:
        """Stacks (T, D) rows of different lengths. Raises RequestTooLong."""
        return pad_left(rows, self.context_tokens)

    def with_images(self, ids: Sequence[int], images: Sequence[Tensor]) -> Tensor:
        """(T, D) embeddings of ids, each placeholder replaced by its image's vectors.

        An image may have any number of vectors. Raises ValueError unless there are as many
        placeholders as images.
        """
        places = [
            place for place, token in enumerate(ids) if token == self.image_token_id
        ]
        if len(places) != len(images):
            raise ValueError(f"{len(places)} places for {len(images)} images")
        row = torch.tensor(list(ids), device=self.device)
        words = self.embedding(row.unsqueeze(0))[0]
        pieces: list[Tensor] = []
        start = 0
        for place, vectors in zip(places, images, strict=True):
            # Stored tokens are float32, whatever the model runs in.
            pieces += [words[start:place], vectors.to(words)]
            start = place + 1
        return torch.cat([*pieces, words[start:]])

    # The model as it was, without a first pass: what summary tokens are measured against

    def visual_vectors(
        self, images: Sequence[Image] | ImageInputs, **image_options: Any
    ) -> list[Tensor]:
        """(V, D) of each image: what the model itself puts in the place of its placeholder.

        Beside visual tokens that may be words, such as those that open and close the rows of tiles.
        `image_options` go to the image processor. Raises ImageRefused, BaselineUnavailable.
        """
        return self.vectors_of(self.image_spans(images, **image_options))

    def vectors_of(self, own: ImageSpans) -> list[Tensor]:
        """(V, D) of each image of the prompt.

        Raises BaselineUnavailable for a model whose visual tokens are more than embeddings.
        """
        if own.prompt.extras:
            names = ", ".join(sorted(own.prompt.extras))
            raise BaselineUnavailable(
                f"{type(self.base).__name__} hands {names} to its language model beside the visual"
                " tokens, which alone are not what it sees; use uncompressed_prompt"
            )
        return own.rows(own.prompt.inputs_embeds)

    def summary_prompt(self, images: Sequence[Image]) -> Prompt:
        """The uncompressed prompt that asks for a summary of each image. Raises ImageRefused."""
        return self._prompt_of(self._summary_inputs(images))

    def image_spans(
        self, images: Sequence[Image] | ImageInputs, **image_options: Any
    ) -> ImageSpans:
        """The model's own prompt for each image alone, and where the image stands in it.

        Raises ImageRefused.
        """
        own = images
        if not isinstance(own, ImageInputs):
            own = self.image_inputs(own, **image_options)
        prompt = self._prompt_of(self._to_device(own.inputs))
        width = prompt.attention_mask.shape[1]
        spans = []
        for length in prompt.lengths:
            # Padding stands on the left.
            first = width - length + own.before
            spans.append(range(first, width - own.behind))
        return ImageSpans(prompt, spans)

    def image_inputs(
        self, images: Sequence[Image], **image_options: Any
    ) -> ImageInputs:
        """What `image_spans` runs on, still on the CPU: worker processes make it for training.

        Raises ImageRefused.
        """
        rendered = self.prompts.render(self.prompts.messages(1, [("user", "?")]))
        # Measured on the rendered text, where an image is one placeholder; the processor makes many
        # tokens of it, as many as the picture asks for.
        ids = self.prompts.ids(rendered)
        before = ids.index(self.image_token_id)
        inputs = self._taken(images, rendered, **image_options)
        return ImageInputs(inputs, before, behind=len(ids) - before - 1)

    def uncompressed_prompt(
        self, images: Sequence[Sequence[Image]], conversations: Sequence[Turns]
    ) -> Prompt:
        """Like `second_pass_prompt`, with all visual tokens.

        They come as the model itself hands them to its language model: at its positions, with its
        extra features and masks.
        """
        texts = []
        for pictures, turns in zip(images, conversations, strict=True):
            messages = self.prompts.messages(len(pictures), turns)
            texts.append(self.prompts.render(messages))
        inputs = self._processed(images, texts)
        return self._prompt_of(inputs)

    def _prompt_of(self, inputs: dict[str, Tensor]) -> Prompt:
        """The processor's inputs as the language model reads them."""
        return prompt_of(self.base, inputs)

    def _processed(
        self,
        images: Sequence[Sequence[Image]],
        texts: Sequence[str],
        **image_options: Any,
    ) -> dict[str, Any]:
        """The processor's inputs on the model's device."""
        return self._to_device(self.prompts.processed(images, texts, **image_options))

    def _to_device(
        self, inputs: dict[str, Any], device: torch.device | None = None
    ) -> dict[str, Any]:
        place = device or self.device
        return {
            name: value.to(place) if isinstance(value, Tensor) else value
            for name, value in inputs.items()
        }

    # Weights

    def merge_adapters(self) -> None:
        """Folds both adapters into the weights for serving: no more training or saving.

        Raises ValueError the second time.
        """
        self.adapters = merge_adapters(self.lvlm)

    def trained_parameters(self) -> Iterable[tuple[str, nn.Parameter]]:
        """Names and parameters that training changes."""
        return (
            (name, parameter)
            for name, parameter in self.named_parameters()
            if parameter.requires_grad
        )
