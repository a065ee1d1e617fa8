"""Second pass: the same LLM answers from summary tokens in place of images (port `Generator`).

One step at a time, a part of the prompts or a greedy token, so that the thread that owns the model
may do other work in between, or stop.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch

from compressor.fwd2bot.answer_writer import AnswerWriter
from compressor.fwd2bot.constraints import ConstraintCompiler, TokenConstraint
from compressor.fwd2bot.decoding import Decoding
from compressor.fwd2bot.model import SummaryLvlm
from compressor.fwd2bot.prompts import Prompt, check_lengths
from compressor.ports import GenerationLimits, GenerationRequest, Generator, Piece

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

    @property
    def model(self) -> SummaryLvlm:
        """The model whose second pass this is."""
        return self._model

    def generate(
        self, requests: Sequence[GenerationRequest], limits: Sequence[GenerationLimits]
    ) -> Iterator[Piece]:
        """See `Generator`. Raises RequestTooLong before the first piece."""
        if not requests:
            # An iterator that can be closed, as any other.
            return (piece for piece in list[Piece]())
        # Before the first piece: a caller that already streams an answer cannot take it back.
        prompt = checked_prompt(self._model, requests, limits)
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
            AnswerWriter(
                model.backend_tokenizer, self._end_ids, length, limit, constraint
            )
            for length, limit, constraint in zip(
                prompt.lengths, limits, constraints, strict=True
            )
        ]
        part_tokens = self._prefill_tokens or self._part_tokens(len(answers))
        while self._read(decoding, part_tokens):
            # Without text: the caller may do something else now, or close the iterator.
            yield answers[0].piece(0, "")
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
                text = answers[row].write(token, log_probabilities[row])
                if text or answers[row].finish_reason:
                    yield answers[row].piece(row, text)

    def _constraint(self, request: GenerationRequest) -> TokenConstraint | None:
        """Raises ConstraintInvalid."""
        if request.constraint is None:
            return None
        if self._constraints is None:
            self._constraints = constraint_compiler(self._model, self._end_ids)
        return self._constraints(request.constraint)

    def _read(self, decoding: Decoding, token_count: int) -> bool:
        with torch.inference_mode(), self._model.adapters.use("second_pass"):
            return decoding.read(token_count)

    def _part_tokens(self, prompts: int) -> int:
        on_cpu = self._model.device.type == "cpu"
        budget = _CPU_PREFILL_TOKENS if on_cpu else _GPU_PREFILL_TOKENS
        return max(_LEAST_PREFILL_TOKENS, budget // prompts)


def checked_prompt(
    model: SummaryLvlm,
    requests: Sequence[GenerationRequest],
    limits: Sequence[GenerationLimits],
) -> Prompt:
    """The prompts of one request or more.

    Raises RequestTooLong for a prompt over its limit, or one whose answer does not fit the context.
    """
    images = []
    conversations = []
    for request in requests:
        images.append(
            [torch.from_numpy(rows).to(model.device) for rows in request.images]
        )
        conversations.append([(turn.role, turn.text) for turn in request.conversation])
    with torch.inference_mode():
        prompt = model.second_pass_prompt(images, conversations)
    check_lengths(prompt.lengths, limits, model.context_tokens)
    return prompt


def constraint_compiler(
    model: SummaryLvlm, end_ids: frozenset[int]
) -> ConstraintCompiler:
    """What compiles constraints for the model's vocabulary."""
    token_count = int(model.base.config.get_text_config().vocab_size)
    return ConstraintCompiler(model.backend_tokenizer, token_count, end_ids)


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
