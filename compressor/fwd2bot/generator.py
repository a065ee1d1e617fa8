"""Second pass: the same LLM answers from summary tokens in place of images (port `Generator`).

One step at a time, a part of the prompts or a greedy token, so that the thread that owns the model
may do other work in between, or stop.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Literal

import torch
from tokenizers.decoders import DecodeStream

from compressor.errors import RequestTooLong
from compressor.fwd2bot.constraints import ConstraintCompiler, TokenConstraint
from compressor.fwd2bot.decoding import Decoding
from compressor.fwd2bot.model import SummaryLvlm
from compressor.fwd2bot.prompts import Prompt
from compressor.ports import GenerationLimits, GenerationRequest, Generator, Piece

FinishReason = Literal["stop", "length"]
# Tokens of all prompts together that one step reads: less than a second on two cores of a CPU for
# the default model, so that whoever hangs up stops it soon, and enough to keep a GPU busy.
_CPU_PREFILL_TOKENS = 64
_GPU_PREFILL_TOKENS = 8192
# Of one prompt: below that, the calls cost more than the tokens.
_LEAST_PREFILL_TOKENS = 8


class LvlmGenerator:
    """Answers with the LVLM in this process."""

    def __init__(self, model: SummaryLvlm, prefill_tokens: int | None = None) -> None:
        """`prefill_tokens` is how many tokens of a prompt one step reads; by default enough for
        the device, and shared by the prompts of a call.
        """
        self._model = model
        self._prefill_tokens = prefill_tokens
        self._end_ids = frozenset(model.end_ids)
        self._constraints: ConstraintCompiler | None = None

    def generate(
        self, requests: Sequence[GenerationRequest], limits: Sequence[GenerationLimits]
    ) -> Iterator[Piece]:
        """See `Generator`. Raises RequestTooLong before the first piece."""
        if not requests:
            # An iterator that can be closed, as any other.
            return (piece for piece in list[Piece]())
        model = self._model
        images = []
        conversations = []
        for request in requests:
            images.append(
                [torch.from_numpy(rows).to(model.device) for rows in request.images]
            )
            conversations.append(
                [(turn.role, turn.text) for turn in request.conversation]
            )
        with torch.inference_mode():
            prompt = model.second_pass_prompt(images, conversations)
        pairs = zip(prompt.lengths, limits, strict=True)
        # Before the first piece: a caller that already streams an answer cannot take it back.
        for length, limit in zip(prompt.lengths, limits, strict=True):
            if limit.max_prompt_tokens is not None and length > limit.max_prompt_tokens:
                raise RequestTooLong(
                    f"a prompt may have {limit.max_prompt_tokens} tokens, this one has {length}"
                )
        longest = max(length + limit.max_tokens for length, limit in pairs)
        if longest > model.context_tokens:
            raise RequestTooLong(
                f"the model's context holds {model.context_tokens} tokens, this needs {longest}"
            )
        constraints = [self._constraint(request) for request in requests]
        return self.answer(prompt, limits, constraints)

    def answer(
        self,
        prompt: Prompt,
        limits: Sequence[GenerationLimits],
        constraints: Sequence[TokenConstraint | None] | None = None,
    ) -> Iterator[Piece]:
        """Decodes greedily from prompts with any vectors in place of images, compressed or not."""
        model = self._model
        decoding = Decoding(model.decoder, prompt)
        constraints = constraints or [None] * len(limits)
        answers = [
            _Answer(length, limit, constraint)
            for length, limit, constraint in zip(
                prompt.lengths, limits, constraints, strict=True
            )
        ]
        part_tokens = self._prefill_tokens or self._part_tokens(len(answers))
        while self._read(decoding, part_tokens):
            # Without text: the caller may do something else now, or close the iterator.
            yield Piece(0, "", answers[0].prompt_tokens, 0)
        embeddings = None
        while not all(answer.finish_reason for answer in answers):
            # Entered at every step: while the generator is suspended at `yield`, its caller may run
            # a first pass, and neither the adapter nor the inference mode may leak into that.
            with torch.inference_mode(), model.adapters.use("second_pass"):
                last = decoding.step(embeddings).last_hidden_state[:, -1]
                # In float32: a sum over the vocabulary loses the small probabilities in half
                # precision.
                logits = model.output_head(last).float()
                for row, answer in enumerate(answers):
                    if answer.constraint is not None and not answer.finish_reason:
                        allowed = torch.from_numpy(answer.constraint.allowed())
                        logits[row, ~allowed.to(logits.device)] = -math.inf
                tokens = logits.argmax(-1)
                chosen = logits.gather(-1, tokens.unsqueeze(1)).squeeze(1)
                log_probabilities = (chosen - logits.logsumexp(-1)).tolist()
                embeddings = model.embedding(tokens.unsqueeze(1))
            for row, token in enumerate(tokens.tolist()):
                # Rows that have ended are computed along and thrown away.
                if answers[row].finish_reason:
                    continue
                answers[row].log_probabilities.append(log_probabilities[row])
                text = self._written(answers[row], token)
                reason = answers[row].finish_reason
                if text or reason:
                    yield Piece(
                        row,
                        text,
                        answers[row].prompt_tokens,
                        answers[row].written,
                        reason,
                        answers[row].mean_probability,
                    )

    def _constraint(self, request: GenerationRequest) -> TokenConstraint | None:
        """Raises ConstraintInvalid."""
        if request.constraint is None:
            return None
        if self._constraints is None:
            model = self._model
            token_count = int(model.base.config.get_text_config().vocab_size)
            self._constraints = ConstraintCompiler(
                model.tokenizer, token_count, self._end_ids
            )
        return self._constraints(request.constraint)

    def _read(self, decoding: Decoding, token_count: int) -> bool:
        with torch.inference_mode(), self._model.adapters.use("second_pass"):
            return decoding.read(token_count)

    def _part_tokens(self, prompts: int) -> int:
        on_cpu = self._model.device.type == "cpu"
        budget = _CPU_PREFILL_TOKENS if on_cpu else _GPU_PREFILL_TOKENS
        return max(_LEAST_PREFILL_TOKENS, budget // prompts)

    def _written(self, answer: _Answer, token: int) -> str:
        """The text that one more token adds to an answer; sets its finish reason."""
        # An end is not counted as written, so an answer may have exactly `max_tokens` before it.
        constraint = answer.constraint
        if token in self._end_ids:
            # A constraint that has failed allows nothing but the end.
            has_failed = constraint is not None and constraint.has_failed
            answer.finish_reason = "length" if has_failed else "stop"
            return ""
        answer.written += 1
        if answer.written >= answer.limit.max_tokens:
            answer.finish_reason = "length"
        if constraint is not None:
            constraint.take(token)
            if constraint.is_complete:
                answer.finish_reason = "stop"
        # None while the bytes of a character are incomplete.
        text = answer.stream.step(self._model.tokenizer._tokenizer, token) or ""
        if not answer.begun:
            # White space before an answer is the template's, not the answer's.
            text = text.lstrip()
            answer.begun = bool(text)
        return text


@dataclass
class _Answer:
    """The state of one answer while it is written."""

    prompt_tokens: int
    limit: GenerationLimits
    constraint: TokenConstraint | None = None
    stream: DecodeStream = field(
        default_factory=lambda: DecodeStream(skip_special_tokens=True)
    )
    written: int = 0
    begun: bool = False
    finish_reason: FinishReason | None = None
    # of each token so far, the end token included
    log_probabilities: list[float] = field(default_factory=list)

    @property
    def mean_probability(self) -> float:
        """Geometric mean, so that a long answer is not less likely for its length alone."""
        return math.exp(fmean(self.log_probabilities))


# Answers as whole texts, for callers that do not stream.


def whole_answers(
    generator: Generator,
    requests: Sequence[GenerationRequest],
    limits: Sequence[GenerationLimits],
) -> list[str]:
    """The text of each request's answer. Raises CompressorError."""
    texts = [""] * len(requests)
    for piece in generator.generate(requests, limits):
        texts[piece.request] += piece.text
    return texts
