"""Conditions of a filter as SQL over the table `terms` of a PostgreSQL schema."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from index.filters import Condition, Value
from index.store.filter_sql import OPERATORS, Select, TermQueries, placeholders

_KEY_BYTES = 1000  # of a name, in the index


def name_is(name: str) -> Select:
    """The condition that a term has this name; by the index, which holds names cut short."""
    data = name.encode()
    return "substring(name, 1, 1000) = ? AND name = ?", [data[:_KEY_BYTES], data]


def columns_of(value: Value) -> tuple[bytes | None, Decimal | None]:
    """The columns `text` and `number` of a term."""
    if isinstance(value, str):
        return value.encode(), None
    # From the float itself: psycopg would send the shortest text that rounds to it.
    return None, Decimal(value)


class PostgresTerms(TermQueries):
    """See TermQueries."""

    def accepted(self, condition: Condition) -> Select:
        """See TermQueries."""
        text, values = name_is(condition.name)
        if condition.choices is not None:
            chosen, bound = _one_of(condition.choices)
            text += f" AND {chosen}"
            values += bound
        for key, operand in condition.comparisons:
            column, bound_value = _column(operand)
            text += f" AND {column} {OPERATORS[key]} ?"
            values.append(bound_value)
        return f"SELECT row FROM terms WHERE {text}", values

    def equal(self, name: str, values: tuple[Value, ...]) -> Select:
        """See TermQueries."""
        text, bound = name_is(name)
        chosen, choices = _one_of(values)
        return f"SELECT row FROM terms WHERE {text} AND {chosen}", bound + choices

    def present(self, name: str) -> Select:
        """See TermQueries."""
        text, values = name_is(name)
        # Names inside begin with a dot after the name; the character after the dot is the slash.
        first, behind = f"{name}.".encode(), f"{name}/".encode()
        within = (
            "substring(name, 1, 1000) >= ? AND substring(name, 1, 1000) <= ?"
            " AND name >= ? AND name < ?"
        )
        values += [first[:_KEY_BYTES], behind[:_KEY_BYTES], first, behind]
        return f"SELECT row FROM terms WHERE ({text}) OR ({within})", values


def _column(value: Value) -> tuple[str, Any]:
    text, number = columns_of(value)
    # A comparison with NULL is never true, so a text is never compared with a number.
    return ("number", number) if text is None else ("text", text)


def _one_of(values: tuple[Value, ...]) -> Select:
    columns = [columns_of(value) for value in values]
    texts = [text for text, _ in columns if text is not None]
    numbers = [number for _, number in columns if number is not None]
    parts = []
    if texts:
        parts.append(f"text IN ({placeholders(texts)})")
    if numbers:
        parts.append(f"number IN ({placeholders(numbers)})")
    return f"({' OR '.join(parts) or 'false'})", [*texts, *numbers]
