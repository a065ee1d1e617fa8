"""Answers that say only that the model cannot answer: a rule on their first words, for English."""

from __future__ import annotations

import re

from compressor.text import normalise_text

_REFUSAL = re.compile(
    r"""
    unanswerable$
    | (sorry,?[ ]|(i\ am|i'm)\ sorry,?[ ](but[ ])?)?
      (
        i\ (cannot|can't|can\ not|could\ not|couldn't)
          \ (tell|say|read|know|answer|determine|identify|recogni[sz]e|make\ out)\b
        | i\ (do\ not|don't)\ know\b
        | (i\ am|i'm)\ (not\ (sure|able\ to)|unable\ to)\b
        | (it\ is|it's)\ (not\ possible|impossible)\ to\ (tell|say|read|know|determine|identify)\b
      )
    """,
    re.VERBOSE,
)


def is_refusal(answer: str) -> bool:
    """Whether an answer says nothing but that it cannot be given, whatever the picture shows."""
    return _REFUSAL.match(normalise_text(answer).replace("’", "'")) is not None
