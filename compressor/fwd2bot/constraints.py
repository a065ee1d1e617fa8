"""Answers in a form that the caller asks for: which tokens may come next, by llguidance.

Shapes: V tokens that the language model's head knows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property

import numpy as np
from llguidance import LLMatcher, LLTokenizer
from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask
from numpy.typing import NDArray
from tokenizers import Tokenizer

from compressor.errors import ConstraintInvalid
from compressor.ports import Choice, Constraint, JsonSchema, Number

# Bounded, so that an answer ends: a model may like to write digits.
NUMBER = r"-?(0|[1-9][0-9]{0,14})(\.[0-9]{1,6})?"


_ARTICLE = re.compile(r"^(a|an|the) ", re.IGNORECASE)
_LOWER_WORDS = re.compile(r"[a-z][a-z-]+( [a-z-]+)*")


def choice_forms(constraint: Constraint) -> dict[str, str]:
    """The texts in which a model may name an option of a Choice, and the option; else nothing.

    A model that answers in sentences says "A cat.". Held to "cat" or "dog" it would have to begin
    with a word that it never begins with, and what it saw would hardly count.
    """
    if not isinstance(constraint, Choice):
        return {}
    forms = {option: option for option in constraint.options}
    for option in constraint.options:
        for form in _sentences(option):
            # What is an option itself stands for no other.
            forms.setdefault(form, option)
    return forms


def _sentences(option: str) -> Iterator[str]:
    noun = _ARTICLE.sub("", option.strip().removesuffix("."))
    starts = [noun, noun[:1].upper() + noun[1:]]
    # Not a letter that numbers an answer, nor a name.
    if _LOWER_WORDS.fullmatch(noun):
        article = "An" if noun[0] in "aeiou" else "A"
        starts += [f"{article} {noun}", f"The {noun}"]
    for start in filter(None, starts):
        yield start
        yield f"{start}."


class TokenConstraint:
    """What one answer may go on with."""

    def __init__(
        self,
        matcher: LLMatcher,
        token_count: int,
        end_ids: Sequence[int],
        forms: Mapping[str, str],
    ) -> None:
        self.forms = forms  # texts that stand for another; see `choice_forms`
        self._matcher = matcher
        self._token_count = token_count  # V
        self._end_ids = end_ids
        self._bits = allocate_token_bitmask(1, token_count)
        self._has_dead_end = False

    def allowed(self) -> NDArray[np.bool_]:
        """(V,) the tokens that may come next, the end among them; never none.

        Once the constraint has failed, it is the end alone.
        """
        fill_next_token_bitmask(self._matcher, self._bits)
        bits = np.unpackbits(self._bits.view(np.uint8), bitorder="little")
        allowed = bits[: self._token_count].astype(np.bool_)
        self._has_dead_end |= not allowed.any()
        if self.has_failed:
            allowed[:] = False
            allowed[self._end_ids] = True
        return allowed

    def take(self, token: int) -> None:
        """The answer goes on with a token that is allowed."""
        self._matcher.consume_token(token)

    @property
    def is_complete(self) -> bool:
        """Whether nothing can follow but the end."""
        return self._matcher.is_stopped() and not self.has_failed

    @property
    def has_failed(self) -> bool:
        """Whether the answer cannot go on: nothing fits, or it took more work than a token may."""
        return self._has_dead_end or bool(self._matcher.is_error())


class ConstraintCompiler:
    """Makes constraints for one tokenizer."""

    def __init__(
        self, tokenizer: Tokenizer, token_count: int, end_ids: Collection[int]
    ) -> None:
        """`token_count` is V."""
        self._tokenizer = tokenizer
        self._token_count = token_count
        self._end_ids = list(end_ids)

    def __call__(self, constraint: Constraint) -> TokenConstraint:
        """Raises ConstraintInvalid."""
        try:
            matcher = LLMatcher(
                self._vocabulary, self._grammar(constraint), log_level=0
            )
        except ValueError as error:
            raise ConstraintInvalid(f"not a form for answers: {error}") from error
        forms = choice_forms(constraint)
        compiled = TokenConstraint(matcher, self._token_count, self._end_ids, forms)
        # Some forms are found to be impossible only when the first token is looked for.
        compiled.allowed()
        if compiled.has_failed:
            reason = matcher.get_error() or "no answer fits it"
            raise ConstraintInvalid(f"not a form for answers: {reason}")
        return compiled

    @cached_property
    def _vocabulary(self) -> LLTokenizer:
        # Takes up to seconds, and only some services ever need it.
        plain = Tokenizer.from_str(self._tokenizer.to_str())
        # What an earlier call of the tokenizer has set.
        plain.no_padding()
        plain.no_truncation()
        return LLTokenizer(
            plain.to_str(), n_vocab=self._token_count, eos_token=self._end_ids
        )

    def _grammar(self, constraint: Constraint) -> str:
        match constraint:
            case Choice():
                forms = choice_forms(constraint)
                texts = [json.dumps(text, ensure_ascii=False) for text in forms]
                return LLMatcher.grammar_from_lark(f"start: {' | '.join(texts)}")
            case Number():
                return LLMatcher.grammar_from_regex(NUMBER)
            case JsonSchema(text):
                # Without white space, which a small model may write for ever.
                return LLMatcher.grammar_from_json_schema(
                    text, overrides={"whitespace_flexible": False}
                )
