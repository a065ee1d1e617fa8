"""Second pass on ONNX Runtime (port `Generator`): all open answers share one running batch."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from collections.abc import Sequence as Many
from functools import cached_property
from pathlib import Path

from compressor.fwd2bot.answer_writer import AnswerWriter
from compressor.fwd2bot.constraints import ConstraintCompiler
from compressor.fwd2bot.onnx_engine.batch import (
    PREFILL_TOKENS,
    PREFIX_BYTES,
    ContinuousBatch,
    Sequence,
)
from compressor.fwd2bot.onnx_engine.decoder import OnnxDecoder
from compressor.fwd2bot.onnx_engine.folder import Precision
from compressor.fwd2bot.onnx_engine.prompt_embedder import PromptEmbedder
from compressor.fwd2bot.onnx_engine.session import default_threads
from compressor.ports import GenerationLimits, GenerationRequest, Piece, PrefixStats


class OnnxGenerator:
    """Answers with an exported language model, whose text side is a `PromptEmbedder`."""

    def __init__(
        self,
        text_side: PromptEmbedder,
        folder: Path,
        fingerprint: str,
        prefill_tokens: int = PREFILL_TOKENS,
        prefix_bytes: int = PREFIX_BYTES,
    ) -> None:
        """`folder` is what `export` wrote for the summary model of this fingerprint.

        Of earlier prompts, `prefix_bytes` of keys and values are kept.

        Raises ModelFilesMissing, ModelFilesInvalid or EngineRefused.
        """
        self._text_side = text_side
        decoder = OnnxDecoder(folder, fingerprint, default_threads())
        self.precision: Precision = decoder.manifest.precision
        self._batch = ContinuousBatch(
            decoder, text_side.embed, prefill_tokens, prefix_bytes
        )
        # Answers of all calls, by their sequence: a step of one call writes for the others too.
        self._answers: dict[Sequence, _Answer] = {}

    def prefix_stats(self) -> PrefixStats:
        """See `KeepsPrefixes`."""
        return self._batch.prefix_stats

    @cached_property
    def _compile(self) -> ConstraintCompiler:
        return self._text_side.constraint_compiler()

    def generate(
        self, requests: Many[GenerationRequest], limits: Many[GenerationLimits]
    ) -> Iterator[Piece]:
        """See `Generator`.

        Raises RequestTooLong and ConstraintInvalid before the first piece, EngineFailed later.
        """
        if not requests:
            return self._pieces([])
        prompts = self._text_side.prompts(requests, limits)
        answers = []
        for number, (prompt, limit) in enumerate(zip(prompts, limits, strict=True)):
            form = requests[number].constraint
            constraint = None if form is None else self._compile(form)
            sequence = Sequence(
                prompt,
                limit.max_tokens,
                None if constraint is None else constraint.allowed,
            )
            writer = AnswerWriter(
                self._text_side.tokenizer,
                self._text_side.end_ids,
                len(prompt),
                limit,
                constraint,
            )
            answers.append(_Answer(number, sequence, writer))
        return self._pieces(answers)

    def _pieces(self, answers: list[_Answer]) -> Iterator[Piece]:
        try:
            for answer in answers:
                self._answers[answer.sequence] = answer
                self._batch.add(answer.sequence)
            while open_answers := [each for each in answers if not each.has_ended]:
                if not any(answer.pieces for answer in open_answers):
                    self._step()
                for answer in open_answers:
                    if answer.sequence.error is not None:
                        raise answer.sequence.error
                    while answer.pieces:
                        yield answer.pieces.popleft()
                unread = [each for each in answers if not each.sequence.is_read]
                if unread:
                    # Without text: the caller may do something else now, or close the iterator.
                    yield unread[0].writer.piece(unread[0].number, "")
        finally:
            for answer in answers:
                self._batch.remove(answer.sequence)
                self._answers.pop(answer.sequence, None)

    def _step(self) -> None:
        for sequence in self._batch.step():
            answer = self._answers[sequence]
            answer.take_last_token()
            if answer.writer.finish_reason:
                self._batch.remove(sequence)


class _Answer:
    """An answer, and its pieces that its own call has not yet given out."""

    def __init__(self, number: int, sequence: Sequence, writer: AnswerWriter) -> None:
        self.number = number  # of its request in the call
        self.sequence = sequence
        self.writer = writer
        self.pieces: deque[Piece] = deque()

    @property
    def has_ended(self) -> bool:
        """Whether the last piece was given out."""
        return self.writer.finish_reason is not None and not self.pieces

    def take_last_token(self) -> None:
        """Makes a piece of the sequence's last token, unless its character is incomplete."""
        sequence = self.sequence
        text = self.writer.write(sequence.tokens[-1], sequence.log_probabilities[-1])
        if text or self.writer.finish_reason:
            self.pieces.append(self.writer.piece(self.number, text))
