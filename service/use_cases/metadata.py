"""Metadata as clients send it, and filters over it.

Texts are composed (Unicode NFC) in both: an "é" typed on one system finds that of another.
"""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from index.filters import Condition, Filter, parse_filter
from service.errors import InvalidInput

MAX_DEPTH = 32
TAGS = "tags"  # key of the list of tags in metadata


def metadata_of_files(field: str | None, files: int) -> list[dict[str, Any]]:
    """The metadata of each file of an upload, from one JSON object or a list with one for each.

    Raises InvalidInput.
    """
    if field is None or not field.strip():
        return [{} for _ in range(files)]
    value = _parsed(field, "metadata")
    entries = value if isinstance(value, list) else [value] * files
    if len(entries) != files:
        raise InvalidInput(f"metadata has {len(entries)} entries for {files} files.")
    return [checked_metadata(entry) for entry in entries]


def checked_metadata(value: Any) -> dict[str, Any]:
    """The value with its texts in NFC, if it is a JSON object that can be stored.

    Raises InvalidInput.
    """
    if not isinstance(value, dict):
        raise InvalidInput("metadata must be a JSON object.")
    _check(value, MAX_DEPTH)
    composed: dict[str, Any] = _composed(value)
    return composed


def filter_of(
    where: str | Mapping[str, Any] | None, tags: Sequence[str]
) -> Filter | None:
    """A filter from a JSON object (or its text) and from tags that an image must all have.

    None if there is neither. Raises InvalidInput, index.errors.InvalidFilter.
    """
    if where is None and not tags:
        return None
    value: Any = {} if where is None else where
    if isinstance(value, str):
        value = _parsed(value, "where")
    parsed = parse_filter(value)
    conditions = parsed.conditions
    for tag in tags:
        conditions += parse_filter({TAGS: tag}).conditions
    return _composed_filter(replace(parsed, conditions=conditions))


def _composed_filter(where: Filter) -> Filter:
    alternatives = []
    for group in where.alternatives:
        alternatives.append(tuple(map(_composed_filter, group)))
    conditions = map(_composed_condition, where.conditions)
    return Filter(tuple(conditions), tuple(alternatives))


def _composed_condition(condition: Condition) -> Condition:
    comparisons = tuple((key, _composed(value)) for key, value in condition.comparisons)
    choices = condition.choices
    if choices is not None:
        choices = tuple(map(_composed, choices))
    return replace(
        condition,
        name=_composed(condition.name),
        comparisons=comparisons,
        choices=choices,
        excluded=tuple(map(_composed, condition.excluded)),
    )


def _parsed(text: str, name: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{name} is not JSON: {error}") from error


def _composed(value: Any) -> Any:
    """The JSON value with all its texts in NFC. Raises InvalidInput."""
    if isinstance(value, str):
        return unicodedata.normalize("NFC", value)
    if isinstance(value, dict):
        composed = {_composed(key): _composed(inner) for key, inner in value.items()}
        if len(composed) < len(value):
            # One of the two values would be lost.
            raise InvalidInput("two names in an object are the same text in Unicode.")
        return composed
    if isinstance(value, list):
        return [_composed(inner) for inner in value]
    return value


def _check(value: Any, depth: int) -> None:
    if depth == 0:
        raise InvalidInput(f"metadata is nested deeper than {MAX_DEPTH} levels.")
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidInput("metadata has a number that is not finite.")
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            # JSON can spell half of a surrogate pair, which UTF-8 cannot.
            raise InvalidInput("metadata has half of a surrogate pair.") from error
    elif isinstance(value, dict):
        for key, inner in value.items():
            _check(key, depth)
            _check(inner, depth - 1)
    elif isinstance(value, list):
        for inner in value:
            _check(inner, depth - 1)
