"""Filters over metadata: conditions that all must hold, each on the values of one name (see
terms.py).

Knows nothing of SQL or of stores.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from index.errors import InvalidFilter

# The scalar values inside metadata, by dotted name: what filters look up.


MAX_TEXT_CHARACTERS = (
    256  # longer texts are kept in the record but cannot be filtered on: an index is no archive
)


def metadata_terms(metadata: Mapping[str, Any]) -> list[tuple[str, str | int | float]]:
    """(name, value) of each text, number or truth value: {"tags": ["a"], "gps": {"lat": 1}} has
    tags=a and gps.lat=1.

    Truth values become 1 and 0; nulls, texts over 256 characters and integers over 64 bits are left
    out; repeated pairs come once.
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


Value = str | int | float

COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "eq": lambda held, asked: held == asked,
    "gt": lambda held, asked: held > asked,
    "gte": lambda held, asked: held >= asked,
    "lt": lambda held, asked: held < asked,
    "lte": lambda held, asked: held <= asked,
}
MAX_CONDITIONS = 32
MAX_CHOICES = 256  # values of one "in"


@dataclass(frozen=True)
class Condition:
    """One value under `name` must be among `choices`, if there are any, and pass all `comparisons`."""

    name: str  # dotted: "gps.lat"
    comparisons: tuple[
        tuple[str, Value], ...
    ] = ()  # (key of COMPARISONS, value); texts compare by code point
    choices: tuple[Value, ...] | None = None

    def holds(self, terms: Iterable[tuple[str, Value]]) -> bool:
        """Whether it holds for the terms of an image. A text is neither less nor greater than a number."""
        return any(name == self.name and self._passes(value) for name, value in terms)

    def _passes(self, value: Value) -> bool:
        if self.choices is not None and value not in self.choices:
            return False
        return all(
            isinstance(value, str) == isinstance(asked, str) and COMPARISONS[key](value, asked)
            for key, asked in self.comparisons
        )


@dataclass(frozen=True)
class Filter:
    """All conditions must hold."""

    conditions: tuple[Condition, ...]

    def holds(self, terms: Iterable[tuple[str, Value]]) -> bool:
        """Whether it holds for the terms of an image."""
        held = list(terms)
        return all(condition.holds(held) for condition in self.conditions)


def parse_filter(where: Mapping[str, Any]) -> Filter:
    """A filter from JSON: {"tags": "cat", "year": {"gte": 2020, "lt": 2026}, "camera": {"in": ["A",
    "B"]}}.

    A bare value means that it is among the values of that name; lists in metadata hold several.
    Raises InvalidFilter.
    """
    if not isinstance(where, Mapping):
        raise InvalidFilter("a filter must be a JSON object")
    if len(where) > MAX_CONDITIONS:
        raise InvalidFilter(f"a filter has at most {MAX_CONDITIONS} conditions")
    return Filter(tuple(_condition(str(name), asked) for name, asked in where.items()))


def _condition(name: str, asked: Any) -> Condition:
    if not isinstance(asked, Mapping):
        return Condition(name, comparisons=(("eq", _value(name, asked)),))
    choices, comparisons = None, []
    for key, value in asked.items():
        if key == "in":
            if not isinstance(value, list | tuple) or len(value) > MAX_CHOICES:
                raise InvalidFilter(
                    f'"in" of {name!r} must be a list of at most {MAX_CHOICES} values'
                )
            choices = tuple(_value(name, one) for one in value)
        elif key in COMPARISONS:
            comparisons.append((key, _value(name, value)))
        else:
            raise InvalidFilter(
                f"no comparison is called {key!r}; there are in, {', '.join(COMPARISONS)}"
            )
    if choices is None and not comparisons:
        raise InvalidFilter(f"the condition on {name!r} asks for nothing")
    return Condition(name, tuple(comparisons), choices)


def _value(name: str, value: Any) -> Value:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, str) and len(value) > MAX_TEXT_CHARACTERS:
        raise InvalidFilter(
            f"texts over {MAX_TEXT_CHARACTERS} characters cannot be filtered on ({name!r})"
        )
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise InvalidFilter(f"the text asked of {name!r} is not Unicode") from error
        return value
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    raise InvalidFilter(f"{name!r} can be compared with texts, numbers and truth values only")
