"""Filters over metadata as SQL over the table `terms`.

Knows nothing of connections. Values are always bound, never written into the text of a query.
"""

from __future__ import annotations

from index.filters import Condition, Filter, Value

_OPERATORS = {"eq": "=", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}


def matching_rows(where: Filter | None) -> tuple[str, list[Value]]:
    """What to append to a WHERE clause over the column `row`, and the values to bind."""
    if where is None or not where.conditions:
        return "", []
    selects: list[str] = []
    values: list[Value] = []
    for condition in where.conditions:
        text, bound = _select(condition)
        selects.append(text)
        values += bound
    return f" AND row IN ({' INTERSECT '.join(selects)})", values


def _select(condition: Condition) -> tuple[str, list[Value]]:
    text = "SELECT row FROM terms WHERE name = ?"
    bound: list[Value] = [condition.name]
    if condition.choices is not None:
        text += f" AND value IN ({','.join('?' * len(condition.choices))})"
        bound += condition.choices
    for key, value in condition.comparisons:
        # In SQLite every text is greater than every number; here they do not compare, and '' is the least text.
        kind = "value >= ''" if isinstance(value, str) else "value < ''"
        text += f" AND value {_OPERATORS[key]} ? AND {kind}"
        bound.append(value)
    return text, bound
