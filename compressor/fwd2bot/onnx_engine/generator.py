"""Second pass on ONNX Runtime (port `Generator`): all open answers share one running batch."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from collections.abc import Sequence as Many
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from compressor.fwd2bot.answer_writer import AnswerWriter
from compressor.fwd2bot.constraints import ConstraintCompiler
from compressor.fwd2bot.generator import checked_prompt, constraint_compiler
from compressor.fwd2bot.model import SummaryLvlm
from compressor.fwd2bot.onnx_engine.batch import (
    PREFILL_TOKENS,
    PREFIX_BYTES,
    ContinuousBatch,
    Sequence,
)
from compressor.fwd2bot.onnx_engine.decoder import OnnxDecoder
from compressor.fwd2bot.onnx_engine.folder import Precision
from compressor.ports import GenerationLimits, GenerationRequest, Piece, PrefixStats


class OnnxGenerator:
    """Answers with an exported language model; tokenizer and word embeddings are the LVLM's."""

    def __init__(
        self,
        model: SummaryLvlm,
        folder: Path,
        fingerprint: str,
        prefill_tokens: int = PREFILL_TOKENS,
        prefix_bytes: int = PREFIX_BYTES,
    ) -> None:
        """`folder` is what `export` wrote for the summary model of this fingerprint.

        Of earlier prompts, `prefix_bytes` of keys and values are kept.

        Raises ModelFilesMissing, ModelFilesInvalid or EngineRefused.
        """
        self._model = model
        self._end_ids = frozenset(model.end_ids)
        decoder = OnnxDecoder(folder, fingerprint, torch.get_num_threads())
        self.precision: Precision = decoder.manifest.precision
        self._batch = ContinuousBatch(
            decoder, self._embed, prefill_tokens, prefix_bytes
        )
        # Answers of all calls, by their sequence: a step of one call writes for the others too.
        self._answers: dict[Sequence, _Answer] = {}

    def prefix_stats(self) -> PrefixStats:
        """See `KeepsPrefixes`."""
        return self._batch.prefix_stats

    @cached_property
    def _compile(self) -> ConstraintCompiler:
        return constraint_compiler(self._model, self._end_ids)

    def generate(
        self, requests: Many[GenerationRequest], limits: Many[GenerationLimits]
    ) -> Iterator[Piece]:
        """See `Generator`.

        Raises RequestTooLong and ConstraintInvalid before the first piece, EngineFailed later.
        """
        if not requests:
            return self._pieces([])
        prompt = checked_prompt(self._model, requests, limits)
        embeddings = prompt.inputs_embeds.float().numpy()
        answers = []
        for number, limit in enumerate(limits):
            length = prompt.lengths[number]
            # Padding stands on the left.
            form = requests[number].constraint
            constraint = None if form is None else self._compile(form)
            sequence = Sequence(
                embeddings[number, -length:],
                limit.max_tokens,
                None if constraint is None else constraint.allowed,
            )
            writer = AnswerWriter(
                self._model.tokenizer, self._end_ids, length, limit, constraint
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

    def _embed(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        with torch.inference_mode():
            embeddings = self._model.embedding(torch.from_numpy(tokens)[None])[0]
            values: NDArray[np.float32] = embeddings.float().numpy()
        return values


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
