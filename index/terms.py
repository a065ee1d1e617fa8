"""The scalar values inside metadata, by dotted name: what filters look up.

Knows nothing of SQL or of stores.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

MAX_TEXT_CHARACTERS = 256  # longer texts are kept in the record but cannot be filtered on: an index is no archive


def terms_of(metadata: Mapping[str, Any]) -> list[tuple[str, str | int | float]]:
    """(name, value) of each text, number or truth value: {"tags": ["a"], "gps": {"lat": 1}} has tags=a and gps.lat=1.

    Truth values become 1 and 0; nulls, texts over 256 characters and integers over 64 bits are left out; repeated
    pairs come once.
    """
    return list(dict.fromkeys(_walk("", metadata)))


def _walk(name: str, value: Any) -> Iterator[tuple[str, str | int | float]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _walk(f"{name}.{key}" if name else str(key), inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _walk(name, inner)
    elif isinstance(value, bool):
        yield name, int(value)
    elif isinstance(value, int):
        if -(2**63) <= value < 2**63:
            yield name, value
    elif isinstance(value, float) or (isinstance(value, str) and len(value) <= MAX_TEXT_CHARACTERS):
        yield name, value
