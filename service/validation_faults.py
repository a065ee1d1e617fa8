"""What is wrong with a request that its description does not allow, in words for its sender.

The framework's own words name classes and functions of ours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastapi.exceptions import RequestValidationError

# Steps of the framework through a union: `list[tagged-union[TextPart,ImagePart]]`.
_OWN_STEP = re.compile(r"(function-\w+|list|tagged-union|union|nullable)\[.*\]")
_MESSAGES = {
    "dict_type": "Input should be an object",
    "model_type": "Input should be an object",
    "model_attributes_type": "Input should be an object",
    "list_type": "Input should be a list",
    "union_tag_not_found": "`type` is missing",
}
_LENGTHS = {
    "too_short": ("min_length", "at least"),
    "too_long": ("max_length", "at most"),
}
_VALUE_ERROR = "Value error, "  # before the message of a check of ours


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong."""

    location: list[str | int]
    message: str

    @property
    def member(self) -> str | None:
        """The parameter, or the member of the body as `messages[0].content`; None for all of it."""
        _, *steps = self.location
        parts = [f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps]
        return "".join(parts).removeprefix(".") or None

    def __str__(self) -> str:
        return f"{'.'.join(map(str, self.location))}: {self.message}"


def faults_of(error: RequestValidationError) -> list[Fault]:
    """All that is wrong, in the order of the request."""
    return [
        Fault(_location(fault, error.body), _message(fault)) for fault in error.errors()
    ]


def _location(fault: Mapping[str, Any], body: Any) -> list[str | int]:
    path: list[str | int]
    *path, last = fault["loc"]
    if fault["type"] == "json_invalid":
        # The last step is the place in the text.
        return path
    steps = [step for step in path if not _is_own(step)]
    # A member that is unknown may be called anything.
    is_theirs = fault["type"] == "extra_forbidden" or not _is_own(last)
    return _without_types([*steps, last] if is_theirs else steps, body)


def _without_types(steps: list[str | int], body: Any) -> list[str | int]:
    """The steps that are members of the body.

    Into an object of one of several types the framework takes two: its place, and its `type`.
    """
    kept = steps[:1]
    value, may_be_type = body, False
    for step in steps[1:]:
        if may_be_type and isinstance(value, dict) and value.get("type") == step:
            may_be_type = False
            continue
        kept.append(step)
        value, may_be_type = _member(value, step), True
    return kept


def _member(value: Any, step: str | int) -> Any:
    try:
        return value[step]
    except (TypeError, LookupError):
        return None  # it is missing, and that is the fault


def _is_own(step: str | int) -> bool:
    return isinstance(step, str) and _OWN_STEP.fullmatch(step) is not None


def _message(fault: Mapping[str, Any]) -> str:
    kind, message = fault["type"], str(fault["msg"])
    if "UploadFile" in message:
        return "Send this part as a file: with a `filename`."
    if kind == "json_invalid":
        return f"This is not JSON: {fault['ctx']['error']}"
    if kind == "union_tag_invalid":
        tags, sent = fault["ctx"]["expected_tags"], fault["ctx"]["tag"]
        return f"`type` should be one of {tags}, not '{sent}'"
    if kind in _LENGTHS and isinstance(fault["input"], str):
        # The framework calls the characters of a text that is checked by a function items.
        bound, words = _LENGTHS[kind]
        return f"String should have {words} {fault['ctx'][bound]} characters"
    return _MESSAGES.get(kind, message.removeprefix(_VALUE_ERROR))
