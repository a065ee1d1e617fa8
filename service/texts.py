"""Checks on texts that people type.

Knows nothing of what the texts are for.
"""

from __future__ import annotations

from service.errors import InvalidInput


def checked_text(text: str, max_chars: int, what: str) -> str:
    """The text without white space around it. Raises InvalidInput if it is empty or too long."""
    text = text.strip()
    if not text:
        raise InvalidInput(f"The {what} is empty.")
    if len(text) > max_chars:
        raise InvalidInput(f"The {what} has {len(text)} characters, the limit is {max_chars}.")
    return text
