"""Filters over metadata: conditions that all must hold, each on the values of one name (see terms.py).

Knows nothing of SQL or of stores.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from index.errors import BadFilter
from index.terms import MAX_TEXT_CHARACTERS

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
    comparisons: tuple[tuple[str, Value], ...] = ()  # (key of COMPARISONS, value); texts compare by code point
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
    """A filter from JSON: {"tags": "cat", "year": {"gte": 2020, "lt": 2026}, "camera": {"in": ["A", "B"]}}.

    A bare value means that it is among the values of that name; lists in metadata hold several. Raises BadFilter.
    """
    if not isinstance(where, Mapping):
        raise BadFilter("a filter must be a JSON object")
    if len(where) > MAX_CONDITIONS:
        raise BadFilter(f"a filter has at most {MAX_CONDITIONS} conditions")
    return Filter(tuple(_condition(str(name), asked) for name, asked in where.items()))


def _condition(name: str, asked: Any) -> Condition:
    if not isinstance(asked, Mapping):
        return Condition(name, comparisons=(("eq", _value(name, asked)),))
    choices, comparisons = None, []
    for key, value in asked.items():
        if key == "in":
            if not isinstance(value, list | tuple) or len(value) > MAX_CHOICES:
                raise BadFilter(f'"in" of {name!r} must be a list of at most {MAX_CHOICES} values')
            choices = tuple(_value(name, one) for one in value)
        elif key in COMPARISONS:
            comparisons.append((key, _value(name, value)))
        else:
            raise BadFilter(f"no comparison is called {key!r}; there are in, {', '.join(COMPARISONS)}")
    if choices is None and not comparisons:
        raise BadFilter(f"the condition on {name!r} asks for nothing")
    return Condition(name, tuple(comparisons), choices)


def _value(name: str, value: Any) -> Value:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, str) and len(value) > MAX_TEXT_CHARACTERS:
        raise BadFilter(f"texts over {MAX_TEXT_CHARACTERS} characters cannot be filtered on ({name!r})")
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise BadFilter(f"the text asked of {name!r} is not Unicode") from error
        return value
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    raise BadFilter(f"{name!r} can be compared with texts, numbers and truth values only")
