"""Filters as SQL over the metadata index, the table `terms`.

Values are bound, never written into the text: they come from callers of the service.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from index.filters import Condition, Filter, Value

OPERATORS = {"eq": "=", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
Select = tuple[
    str, list[Any]
]  # text of a query for rows with ? for a value; the values to bind


class TermQueries(Protocol):
    """The rows that one condition wants, in the SQL of one database."""

    def accepted(self, condition: Condition) -> Select:
        """The rows of which some value is wanted by the condition."""
        ...

    def equal(self, name: str, values: tuple[Value, ...]) -> Select:
        """The rows that have one of the values under the name."""
        ...

    def present(self, name: str) -> Select:
        """The rows that have any value under the name, or inside it."""
        ...


class SqliteTerms(TermQueries):
    """See TermQueries."""

    def accepted(self, condition: Condition) -> Select:
        """See TermQueries."""
        select = "SELECT row FROM terms WHERE name = ?"
        values: list[Value] = [condition.name]
        if condition.choices is not None:
            select += f" AND value IN ({placeholders(condition.choices)})"
            values += condition.choices
        for key, operand in condition.comparisons:
            # SQLite orders every text above every number; a filter compares neither with the other.
            # The least text is '', which tells the two types apart by the index.
            same_type = "value >= ''" if isinstance(operand, str) else "value < ''"
            select += f" AND value {OPERATORS[key]} ? AND {same_type}"
            values.append(operand)
        return select, values

    def equal(self, name: str, values: tuple[Value, ...]) -> Select:
        """See TermQueries."""
        text = f"SELECT row FROM terms WHERE name = ? AND value IN ({placeholders(values)})"
        return text, [name, *values]

    def present(self, name: str) -> Select:
        """See TermQueries."""
        # Names inside begin with a dot after the name; the character after the dot is the slash.
        text = "SELECT row FROM terms WHERE name = ? OR (name >= ? AND name < ?)"
        return text, [name, f"{name}.", f"{name}/"]


class FilterSql:
    """Filters for one database."""

    def __init__(self, terms: TermQueries) -> None:
        self._terms = terms

    def matching_rows(self, where: Filter | None) -> Select:
        """SQL to append to a WHERE clause over the column `row`, and the values to bind."""
        if where is None:
            return "", []
        wanted, unwanted = self._selects(where)
        text = ""
        values: list[Any] = []
        if wanted:
            query, bound = _joined(" INTERSECT ", wanted)
            text += f" AND row IN ({query})"
            values += bound
        if unwanted:
            # Not as EXCEPT: what is left after one exclusion is nearly every row of the store.
            query, bound = _joined(" UNION ", unwanted)
            text += f" AND row NOT IN ({query})"
            values += bound
        return text, values

    def _selects(self, where: Filter) -> tuple[list[Select], list[Select]]:
        """Queries for rows that must be in all of them, and for rows that must be in none."""
        wanted: list[Select] = []
        unwanted: list[Select] = []
        for condition in where.conditions:
            if condition.wants_value:
                wanted.append(self._terms.accepted(condition))
            if condition.excluded:
                unwanted.append(self._terms.equal(condition.name, condition.excluded))
            if condition.exists is not None:
                target = wanted if condition.exists else unwanted
                target.append(self._terms.present(condition.name))
        for group in where.alternatives:
            query, values = _joined(" UNION ", [self._all_of(each) for each in group])
            # Compounds have no precedence, so one inside another is a subquery.
            wanted.append((f"SELECT row FROM ({query}) AS alternatives", values))
        return wanted, unwanted

    def _all_of(self, where: Filter) -> Select:
        """One query for the rows that match a whole filter."""
        wanted, unwanted = self._selects(where)
        if not wanted:
            wanted = [("SELECT row FROM images", [])]
        query, values = _joined(" INTERSECT ", wanted)
        for text, bound in unwanted:
            query += f" EXCEPT {text}"
            values += bound
        return f"SELECT row FROM ({query}) AS matching", values


def _joined(operator: str, selects: list[Select]) -> Select:
    values: list[Any] = []
    for _, bound in selects:
        values += bound
    return operator.join(text for text, _ in selects), values


def placeholders(values: Sequence[object]) -> str:
    """A question mark for each value."""
    return ",".join("?" * len(values))
