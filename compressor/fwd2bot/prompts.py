"""Prompts as the processor's own chat template renders them, and as the language model reads them.

Shapes: B prompts, T tokens, D hidden size.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError
from PIL.Image import Image

from compressor.errors import ConversationInvalid, RequestTooLong
from compressor.ports import GenerationLimits

if TYPE_CHECKING:
    # Prompts are rendered without PyTorch too.
    from torch import Tensor
    from transformers import ProcessorMixin

    from compressor.fwd2bot.onnx_engine.exported_processor import ExportedProcessor

Turns = Sequence[tuple[str, str]]  # role ("user", "assistant", "system") and text
Message = dict[str, Any]

# Of a text to embed. The default model embeds so many in half a second on two cores of a CPU, and
# nothing else can use the model meanwhile.
MAX_TEXT_TOKENS = 256


@dataclass(frozen=True)
class Prompt:
    """Prompts with vectors in place of images, padded on the left."""

    inputs_embeds: Tensor  # (B, T, D)
    attention_mask: Tensor  # (B, T) 1 where there is a token
    # (B, T), or (axes, B, T) where the model has positions of its own for images.
    position_ids: Tensor
    lengths: list[int]  # tokens of each prompt, padding left out
    # What else the model hands to its language model, by keyword: Qwen3-VL's visual features for
    # the first layers, Gemma 3's masks. They belong to the prompt, not to the tokens behind it.
    extras: Mapping[str, Any] = field(default_factory=dict)
    # (B, K, S) of summary tokens that the prompts read in every layer, in single forward. The
    # attention mask is then (B, K + T).
    states_before: Tensor | None = None

    @property
    def inputs(self) -> dict[str, Any]:
        """The language model's keyword arguments."""
        own = {
            "inputs_embeds": self.inputs_embeds,
            "attention_mask": self.attention_mask,
            "position_ids": self.position_ids,
        }
        return own | dict(self.extras)


def pad_left(rows: Sequence[Tensor], context_tokens: int) -> Prompt:
    """Stacks (T, D) rows of different lengths. Raises RequestTooLong."""
    lengths = [len(row) for row in rows]
    longest = max(lengths)
    if longest > context_tokens:
        raise RequestTooLong(
            f"the model's context holds {context_tokens} tokens, this needs {longest}"
        )
    embeddings = rows[0].new_zeros(len(rows), longest, rows[0].shape[-1])
    mask = embeddings.new_zeros(len(rows), longest).long()
    for number, row in enumerate(rows):
        embeddings[number, longest - len(row) :] = row
        mask[number, longest - len(row) :] = 1
    return Prompt(embeddings, mask, (mask.cumsum(1) - 1).clamp(min=0), lengths)


def check_lengths(
    lengths: Sequence[int], limits: Sequence[GenerationLimits], context_tokens: int
) -> None:
    """Raises RequestTooLong for a prompt over its limit, or whose answer does not fit the context.

    `lengths` are the prompts' tokens.
    """
    for length, limit in zip(lengths, limits, strict=True):
        if limit.max_prompt_tokens is not None and length > limit.max_prompt_tokens:
            raise RequestTooLong(
                f"a prompt may have {limit.max_prompt_tokens} tokens, this one has {length}"
            )
    pairs = zip(lengths, limits, strict=True)
    longest = max(length + limit.max_tokens for length, limit in pairs)
    if longest > context_tokens:
        raise RequestTooLong(
            f"the model's context holds {context_tokens} tokens, this needs {longest}"
        )


@dataclass(frozen=True)
class Conversation:
    """A whole conversation as the chat template renders it, tokenised in one go."""

    ids: list[
        int
    ]  # each image one placeholder; ends with the last token that is predicted
    # Of each assistant turn the tokens to be predicted, the end-of-turn token among them. Where the
    # template closes no turn, only the last answer has an end: the model's own end token.
    answers: list[range]


class PromptRenderer:
    """Turns conversations into text and token ids by a processor's chat template and tokenizer."""

    def __init__(
        self, processor: ProcessorMixin | ExportedProcessor, image_token_id: int
    ) -> None:
        self.processor: Any = processor
        self.tokenizer: Any = self.processor.tokenizer
        self.image_token_id = image_token_id

    # Text

    def render(
        self,
        messages: list[Message],
        *,
        add_generation_prompt: bool = True,
        **flags: bool,
    ) -> str:
        """The chat template's text, up to where an answer starts."""
        options: dict[str, Any] = {"tokenize": False, **flags}
        text = self.processor.apply_chat_template(
            messages, add_generation_prompt=add_generation_prompt, **options
        )
        return str(text)

    def messages(self, image_count: int, turns: Turns) -> list[Message]:
        """Messages as chat templates expect them; the images stand before the first user's text."""
        images_left = image_count
        messages = []
        for role, text in turns:
            images = images_left if role == "user" else 0
            images_left -= images
            content = [{"type": "image"}] * images
            content.append({"type": "text", "text": self.without_specials(text)})
            messages.append({"role": role, "content": content})
        return messages

    def without_specials(self, text: str) -> str:
        """The text with special tokens taken apart: a placeholder a user typed is only text."""
        return self._specials.sub(lambda match: f"{match[0][0]} {match[0][1:]}", text)

    @cached_property
    def _specials(self) -> re.Pattern[str]:
        added = self.tokenizer.added_tokens_decoder.values()
        specials = {token.content for token in added if token.special}
        specials.add(self.tokenizer.convert_ids_to_tokens(self.image_token_id))
        # One special token may begin with another, and the first alternative that fits wins.
        longest_first = sorted(specials, key=len, reverse=True)
        return re.compile("|".join(map(re.escape, longest_first)))

    # Token ids

    def adds_special_tokens(self, text: str) -> bool:
        """Whether the tokenizer still has to put its first token before a rendered text."""
        start = self.tokenizer.bos_token
        return start is None or not text.startswith(start)

    def ids(self, text: str) -> list[int]:
        """Token ids of a rendered text, each image one placeholder."""
        options = {"add_special_tokens": self.adds_special_tokens(text)}
        return list(self.tokenizer(text, **options)["input_ids"])

    def prompt_ids(self, image_count: int, turns: Turns) -> list[int]:
        """Token ids of a conversation up to where the answer starts, each image one placeholder."""
        return self.ids(self.render(self.messages(image_count, turns)))

    @cached_property
    def end_of_turn_id(self) -> int | None:
        """Id of the special token with which the template closes an answer; None if it has none."""
        probe = self.messages(0, [("user", "?"), ("assistant", "!")])
        try:
            text = self.render(probe, add_generation_prompt=False)
        except (TemplateError, TypeError, ValueError):
            return None
        return self._closing_id(text, text.rfind("!") + 1)

    def _closing_id(self, text: str, place: int) -> int | None:
        """Id of the special token at this place of a text, white space before it skipped."""
        match = self._specials.match(text[place:].lstrip())
        if match is None:
            return None
        return int(self.tokenizer.convert_tokens_to_ids(match[0]))

    def conversation(self, image_count: int, turns: Turns, end_id: int) -> Conversation:
        """The conversation's ids and which of them are answers; the last turn is the assistant's.

        `end_id` ends the last answer where the template does not close it. The tokens before each
        answer are those of `prompt_ids` over the turns before it: what training reads is what
        serving reads. Raises ConversationInvalid where the template does not allow that.
        """
        if not turns or turns[-1][0] != "assistant":
            raise ConversationInvalid(
                "the last turn of a training conversation is an answer"
            )
        answers = []
        stripped = []
        for number, (role, text) in enumerate(turns):
            if role == "assistant":
                answers.append(number)
                # Leading white space could merge with the end of the prompt into one token.
                stripped.append((role, text.strip()))
            else:
                stripped.append((role, text))
        messages = self.messages(image_count, stripped)
        whole = self._rendered(messages, add_generation_prompt=False)
        last_text = messages[-1]["content"][-1]["text"]
        text_end = _end_of_text(whole.rfind(last_text), last_text)
        closes = self._closing_id(whole, text_end) is not None
        if not closes:
            # Without an end of its own, what the template puts behind the text (a space, a line
            # break) is for the next turn.
            whole = whole[:text_end]
        ids = self.ids(whole)
        spans = [self._answer_span(messages, number, whole, ids) for number in answers]
        if closes:
            return Conversation(ids[: spans[-1].stop], spans)
        spans[-1] = range(spans[-1].start, len(ids) + 1)
        return Conversation([*ids, end_id], spans)

    def _answer_span(
        self, messages: list[Message], number: int, whole: str, ids: list[int]
    ) -> range:
        """The tokens of the answer in message `number`."""
        before = self._rendered(messages[:number], add_generation_prompt=True)
        if not whole.startswith(before):
            raise ConversationInvalid(
                "the chat template renders an earlier answer otherwise than a prompt for it"
            )
        prompt = self.ids(before)
        if ids[: len(prompt)] != prompt:
            raise ConversationInvalid(
                "the tokenizer merges the end of the prompt with the start of an answer"
            )
        text = messages[number]["content"][-1]["text"]
        text_end = _end_of_text(whole.find(text, len(before)), text)
        # The last token may have merged with what follows; then it is no part of the answer.
        through_text = self.ids(whole[:text_end])
        stop = _common_length(through_text, ids)
        closing = self._closing_id(whole, text_end)
        if closing is not None:
            stop = ids.index(closing, stop) + 1
        return range(len(prompt), stop)

    def _rendered(self, messages: list[Message], *, add_generation_prompt: bool) -> str:
        try:
            return self.render(messages, add_generation_prompt=add_generation_prompt)
        except (TemplateError, TypeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise ConversationInvalid(
                f"the chat template does not render this conversation: {reason}"
            ) from error

    # Images

    def processed(
        self,
        images: Sequence[Sequence[Image]],
        texts: Sequence[str],
        **image_options: Any,
    ) -> dict[str, Any]:
        """The processor's inputs for rendered texts with placeholders, padded on the left."""
        side, self.tokenizer.padding_side = self.tokenizer.padding_side, "left"
        try:
            inputs = self.processor(
                images=[list(row) for row in images],
                text=list(texts),
                return_tensors="pt",
                padding=True,
                add_special_tokens=self.adds_special_tokens(texts[0]),
                **image_options,
            )
        finally:
            self.tokenizer.padding_side = side
        return dict(inputs)


def _end_of_text(start: int, text: str) -> int:
    if start < 0:
        raise ConversationInvalid("the chat template leaves out the text of an answer")
    return start + len(text)


def _common_length(ids: Sequence[int], others: Sequence[int]) -> int:
    """How many first tokens are the same."""
    for place, (left, right) in enumerate(zip(ids, others, strict=False)):
        if left != right:
            return place
    return min(len(ids), len(others))
