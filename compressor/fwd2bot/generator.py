"""Second pass: the same LLM answers from summary tokens in place of images (port `Generator`).

Knows nothing of how the tokens were made or kept. One greedy step a time, so that the thread that
owns the model may do other work between two steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from tokenizers.decoders import DecodeStream
from transformers import DynamicCache

from compressor.errors import RequestTooLong
from compressor.fwd2bot.model import Prompt, SummaryLvlm
from compressor.ports import GenerationLimits, GenerationRequest, Generator, Piece


class LvlmGenerator:
    """Answers with the LVLM in this process."""

    def __init__(self, model: SummaryLvlm) -> None:
        self._model = model
        self._end_ids = frozenset(model.end_ids)

    def generate(
        self, requests: Sequence[GenerationRequest], limits: Sequence[GenerationLimits]
    ) -> Iterator[Piece]:
        """See `Generator`. Raises RequestTooLong before the first piece where a prompt does not fit."""
        if not requests:
            return (
                piece for piece in list[Piece]()
            )  # an iterator that can be closed, as any other
        model = self._model
        with torch.inference_mode():
            prompt = model.second_pass_prompt(
                [
                    [torch.from_numpy(tokens).to(model.device) for tokens in request.images]
                    for request in requests
                ],
                [[(turn.role, turn.text) for turn in request.conversation] for request in requests],
            )
        longest = max(
            length + limit.max_tokens for length, limit in zip(prompt.lengths, limits, strict=True)
        )
        if longest > model.context_tokens:
            raise RequestTooLong(
                f"the model's context holds {model.context_tokens} tokens, this needs {longest}"
            )
        return self.answer(prompt, limits)

    def answer(self, prompt: Prompt, limits: Sequence[GenerationLimits]) -> Iterator[Piece]:
        """Decodes greedily from prompts that hold any vectors in place of images (the uncompressed
        ones, say).
        """
        model = self._model
        mask, positions = prompt.attention_mask, prompt.position_ids
        cache = DynamicCache(config=model.base.config.get_text_config())
        streams = [DecodeStream(skip_special_tokens=True) for _ in limits]
        written = [0] * len(limits)
        begun = [False] * len(
            limits
        )  # white space before an answer is the template's, not the answer's
        running = set(range(len(limits)))
        inputs = {"inputs_embeds": prompt.inputs_embeds}
        while running:
            with torch.inference_mode(), model.adapters.use("second_pass"):
                logits = model.base(
                    **inputs,
                    attention_mask=mask,
                    position_ids=positions,
                    past_key_values=cache,
                    use_cache=True,
                    logits_to_keep=1,
                ).logits[:, -1]
                tokens = logits.argmax(-1)
                mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
                positions = positions[..., -1:] + 1  # a prompt ends in text, where all axes agree
                inputs = {"inputs_embeds": model.embedding(tokens.unsqueeze(1))}
            for row, token in enumerate(tokens.tolist()):
                if row not in running:
                    continue
                ended = token in self._end_ids
                written[row] += not ended
                text = "" if ended else streams[row].step(model.tokenizer._tokenizer, token) or ""
                text = text if begun[row] else text.lstrip()
                begun[row] = begun[row] or bool(text)
                reason: Literal["stop", "length"] | None = None
                reason = (
                    "stop"
                    if ended
                    else "length"
                    if written[row] >= limits[row].max_tokens
                    else None
                )
                if reason is not None:
                    running.discard(row)
                if text or reason:
                    yield Piece(row, text, prompt.lengths[row], written[row], reason)


# Answers as whole texts, for those who do not show them as they come.


def whole_answers(
    generator: Generator, requests: Sequence[GenerationRequest], limits: Sequence[GenerationLimits]
) -> list[str]:
    """The text of each request's answer. Raises CompressorError."""
    texts = [""] * len(requests)
    for piece in generator.generate(requests, limits):
        texts[piece.request] += piece.text
    return texts
