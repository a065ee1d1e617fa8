"""One answer while it is written: its text so far, and when it ends."""

from __future__ import annotations

import math
from statistics import fmean
from typing import Literal

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from compressor.fwd2bot.constraints import TokenConstraint
from compressor.ports import GenerationLimits, Piece


class AnswerWriter:
    """Makes text of the tokens of one answer, as they come."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        end_ids: frozenset[int],
        prompt_tokens: int,
        limit: GenerationLimits,
        constraint: TokenConstraint | None = None,
    ) -> None:
        """Whoever chooses the tokens keeps to the `constraint`."""
        self.constraint = constraint
        self.finish_reason: Literal["stop", "length"] | None = None
        self.written = 0  # tokens, without the end token
        self._prompt_tokens = prompt_tokens
        self._limit = limit
        self._tokenizer = tokenizer
        self._end_ids = end_ids
        self._stream = DecodeStream(skip_special_tokens=True)
        self._has_text = False
        # Until it is known for which option it stands.
        self._held = ""
        # Of each token so far, the end token included.
        self._log_probabilities: list[float] = []

    def write(self, token: int, log_probability: float) -> str:
        """The text that one more token adds; sets the finish reason.

        An option of a Choice is one piece of text, the last.
        """
        self._log_probabilities.append(log_probability)
        # An end is not counted as written, so an answer may have exactly `max_tokens` before it.
        constraint = self.constraint
        if token in self._end_ids:
            # A constraint that has failed allows nothing but the end.
            has_failed = constraint is not None and constraint.has_failed
            return self.end("length" if has_failed else "stop")
        self.written += 1
        text = self._text(token)
        is_full = self.written >= self._limit.max_tokens
        is_complete = False
        if constraint is not None:
            constraint.take(token)
            is_complete = constraint.is_complete
            if constraint.forms:
                self._held += text
                text = ""
                # An option may be followed by a full stop, and need not be.
                is_complete |= is_full and self._held in constraint.forms
        if is_complete or is_full:
            text += self.end("stop" if is_complete else "length")
        return text

    def end(self, reason: Literal["stop", "length"]) -> str:
        """Ends the answer; the option of a Choice that it names, whole, or nothing."""
        self.finish_reason = reason
        forms = self.constraint.forms if self.constraint is not None else {}
        return forms.get(self._held, "")

    def _text(self, token: int) -> str:
        # None while the bytes of a character are incomplete.
        text = self._stream.step(self._tokenizer, token) or ""
        if not self._has_text:
            # White space before an answer is the template's, not the answer's.
            text = text.lstrip()
            self._has_text = bool(text)
        return text

    def piece(self, request: int, text: str) -> Piece:
        """The piece with this text, of the request with this number."""
        return Piece(
            request,
            text,
            self._prompt_tokens,
            self.written,
            self.finish_reason,
            self._mean_probability(),
        )

    def _mean_probability(self) -> float | None:
        """Geometric mean, so that a long answer is not less likely for its length alone."""
        if not self._log_probabilities:
            return None
        return math.exp(fmean(self._log_probabilities))
