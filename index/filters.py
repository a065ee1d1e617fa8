"""Filters over metadata, and the metadata index that they look values up in.

The metadata index lists the scalar values inside an image's metadata by dotted name, as "terms":
{"gps": {"lat": 1}} has the term ("gps.lat", 1).
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from index.errors import InvalidFilter

Value = str | int | float
Term = tuple[str, Value]  # dotted name and value

# Longer texts stay in the record but out of the metadata index, which would hold each of them a
# second time.
MAX_TEXT_CHARACTERS = 256
MAX_CONDITIONS = 32
MAX_CHOICES = 256  # values of one "in" or "not in"
MAX_DEPTH = 4  # of "or" inside "or"
OR = "or"
_INT64_LIMIT = 2**63  # SQLite's integers

COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "eq": operator.eq,
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}


def metadata_terms(metadata: Mapping[str, Any]) -> list[Term]:
    """The terms of an image: {"tags": ["a"], "gps": {"lat": 1}} has tags=a and gps.lat=1.

    Booleans become 1 and 0. Nulls, texts over 256 characters and integers over 64 bits are left
    out. Repeated terms occur once.
    """
    # A dict keeps the order of insertion, so the same metadata always give the same list.
    return list(dict.fromkeys(_walk("", metadata)))


def _walk(name: str, value: Any) -> Iterator[Term]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _walk(f"{name}.{key}" if name else str(key), inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _walk(name, inner)
    elif isinstance(value, bool):
        # Before int, of which bool is a subclass: JSON's true must be found as 1 in SQLite too.
        yield name, int(value)
    elif isinstance(value, int):
        if _is_int64(value):
            yield name, value
    elif isinstance(value, float) or _is_short_text(value):
        yield name, value


def _is_short_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= MAX_TEXT_CHARACTERS


def _is_int64(value: int) -> bool:
    return -_INT64_LIMIT <= value < _INT64_LIMIT


@dataclass(frozen=True)
class Condition:
    """What must hold of the values under one name.

    One value must be among `choices`, if set, and satisfy all `comparisons`; no value may be
    `excluded`; and with `exists`, there must be a value under the name or inside it, or none.
    """

    name: str  # dotted: "gps.lat"
    comparisons: tuple[tuple[str, Value], ...] = ()  # (key of COMPARISONS, operand)
    choices: tuple[Value, ...] | None = None
    excluded: tuple[Value, ...] = ()
    exists: bool | None = None

    @property
    def wants_value(self) -> bool:
        """Whether some value must be under the name, and be accepted."""
        return self.choices is not None or bool(self.comparisons)

    def matches(self, terms: Iterable[Term]) -> bool:
        """Whether an image with these terms matches. Texts compare by code point."""
        terms = list(terms)
        values = [value for name, value in terms if name == self.name]
        if self.wants_value and not any(map(self._accepts, values)):
            return False
        if any(value in self.excluded for value in values):
            return False
        return self.exists is None or self.exists == any(map(self._is_within, terms))

    def _is_within(self, term: Term) -> bool:
        name, _ = term
        return name == self.name or name.startswith(f"{self.name}.")

    def _accepts(self, value: Value) -> bool:
        if self.choices is not None and value not in self.choices:
            return False
        return all(_compare(key, value, operand) for key, operand in self.comparisons)


def _compare(key: str, value: Value, operand: Value) -> bool:
    # A text is neither less nor greater than a number: there is no order a user would expect.
    if isinstance(value, str) != isinstance(operand, str):
        return False
    return COMPARISONS[key](value, operand)


@dataclass(frozen=True)
class Filter:
    """A conjunction of conditions, and of groups of alternatives."""

    conditions: tuple[Condition, ...]
    alternatives: tuple[tuple[Filter, ...], ...] = ()  # one of each group must match

    def matches(self, terms: Iterable[Term]) -> bool:
        """Whether an image with these terms matches all of it."""
        terms = list(terms)
        if not all(condition.matches(terms) for condition in self.conditions):
            return False
        return all(
            any(alternative.matches(terms) for alternative in group)
            for group in self.alternatives
        )

    def condition_count(self) -> int:
        """The number of conditions, those of alternatives included."""
        inner = [filter for group in self.alternatives for filter in group]
        return len(self.conditions) + sum(each.condition_count() for each in inner)


def parse_filter(where: Mapping[str, Any]) -> Filter:
    """A filter from JSON.

    Example: {"tags": "cat", "year": {"gte": 2020, "lt": 2026}, "camera": {"in": ["A", "B"]}}. A
    bare value means equality with any of the values under that name; a list in the metadata has
    several. A list under "or" holds alternatives, each a filter. Raises InvalidFilter.
    """
    parsed = _parse(where, MAX_DEPTH)
    if parsed.condition_count() > MAX_CONDITIONS:
        raise InvalidFilter(f"a filter has at most {MAX_CONDITIONS} conditions")
    return parsed


def _parse(where: Any, depth: int) -> Filter:
    if not isinstance(where, Mapping):
        raise InvalidFilter("a filter must be a JSON object")
    conditions: list[Condition] = []
    alternatives: tuple[tuple[Filter, ...], ...] = ()
    for name, predicate in where.items():
        # Anything else under "or" is about metadata of that name.
        if name == OR and isinstance(predicate, list | tuple):
            alternatives = (_alternatives(predicate, depth),)
        else:
            conditions.append(_condition(str(name), predicate))
    return Filter(tuple(conditions), alternatives)


def _alternatives(filters: Sequence[Any], depth: int) -> tuple[Filter, ...]:
    if depth == 0:
        raise InvalidFilter(f'"or" is nested deeper than {MAX_DEPTH} levels')
    if not 1 <= len(filters) <= MAX_CONDITIONS:
        raise InvalidFilter(f'"or" must list 1 to {MAX_CONDITIONS} filters')
    return tuple(_parse(each, depth - 1) for each in filters)


def _condition(name: str, predicate: Any) -> Condition:
    _check_unicode(name, "a name")
    if not isinstance(predicate, Mapping):
        operand = _operand(name, predicate)
        return Condition(name, comparisons=(("eq", operand),))
    if not predicate:
        raise InvalidFilter(f"the condition on {name!r} is empty")
    choices = None
    exists = None
    excluded: tuple[Value, ...] = ()
    comparisons: list[tuple[str, Value]] = []
    for key, value in predicate.items():
        if key == "in":
            choices = _choices(name, key, value)
        elif key == "not in":
            excluded += _choices(name, key, value)
        elif key == "ne":
            excluded += (_operand(name, value),)
        elif key == "exists":
            exists = _truth(name, value)
        elif key in COMPARISONS:
            comparisons.append((key, _operand(name, value)))
        else:
            keys = ", ".join(["in", "not in", "ne", "exists", *COMPARISONS])
            raise InvalidFilter(f"no comparison is called {key!r}; there are {keys}")
    return Condition(name, tuple(comparisons), choices, excluded, exists)


def _truth(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise InvalidFilter(f'"exists" of {name!r} must be true or false')
    return value


def _choices(name: str, key: str, value: Any) -> tuple[Value, ...]:
    is_list = isinstance(value, list | tuple)
    if not is_list or len(value) > MAX_CHOICES:
        raise InvalidFilter(
            f'"{key}" of {name!r} must be a list of at most {MAX_CHOICES} values'
        )
    return tuple(_operand(name, choice) for choice in value)


def _operand(name: str, value: Any) -> Value:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, str):
        return _text_operand(name, value)
    if isinstance(value, int) and _is_int64(value):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    raise InvalidFilter(
        f"{name!r} can be compared with texts, numbers and booleans only"
    )


def _text_operand(name: str, text: str) -> str:
    if len(text) > MAX_TEXT_CHARACTERS:
        raise InvalidFilter(
            f"texts over {MAX_TEXT_CHARACTERS} characters cannot be filtered on ({name!r})"
        )
    _check_unicode(text, f"the text to compare {name!r} with")
    return text


def _check_unicode(text: str, subject: str) -> None:
    try:
        # JSON allows lone surrogates, which SQLite cannot bind.
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidFilter(f"{subject} is not Unicode") from error
