"""The `metadata` field of an upload: a JSON object for all files, or a list with one for each.

Knows nothing of HTTP.
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from service.errors import InvalidInput

MAX_DEPTH = 32


def metadata_of_files(field: str | None, files: int) -> list[dict[str, Any]]:
    """One JSON object for each file. Raises InvalidInput."""
    if field is None or not field.strip():
        return [{} for _ in range(files)]
    try:
        value = json.loads(field, parse_constant=_refuse, parse_float=_finite)
        field.encode()
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"metadata is not JSON: {error}") from error
    entries = value if isinstance(value, list) else [value] * files
    if len(entries) != files:
        raise InvalidInput(f"metadata has {len(entries)} entries for {files} files.")
    for entry in entries:
        if not isinstance(entry, dict):
            raise InvalidInput("metadata is neither a JSON object nor a list with one for each file.")
        _check(entry, MAX_DEPTH)
    return entries


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON number")


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"{number} is too large a number")
    return value


def _check(value: Any, depth: int) -> None:
    if depth == 0:
        raise InvalidInput(f"metadata is nested deeper than {MAX_DEPTH} levels.")
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise InvalidInput("metadata has characters that no text can have.") from error
    elif isinstance(value, dict):
        for key, inner in value.items():
            _check(key, depth)
            _check(inner, depth - 1)
    elif isinstance(value, list):
        for inner in value:
            _check(inner, depth - 1)
