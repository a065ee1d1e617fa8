"""Command-line flags made from the settings, one for each field, so that neither is written twice.

Knows nothing of what the settings mean.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import click
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from service.settings import Settings

F = TypeVar("F", bound=Callable[..., Any])


def settings_flags(command: F) -> F:
    """Decorator: adds a flag for each setting. Flags that were not given reach the command as None."""
    for name, field in reversed(Settings.model_fields.items()):
        command = click.option(_flag(name, field), name, **_option(name, field))(command)
    return command


def settings_from_flags(given: dict[str, Any]) -> Settings:
    """Settings from flags and environment; a flag wins. Raises click.UsageError."""
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        raise click.UsageError("\n".join(_complaint(part) for part in error.errors())) from error


def _flag(name: str, field: FieldInfo) -> str:
    flag = name.replace("_", "-")
    return f"--{flag}/--no-{flag}" if _value_type(field) is bool else f"--{flag}"


def _option(name: str, field: FieldInfo) -> dict[str, Any]:
    """Keyword arguments of click.option. Values stay text: the settings model itself checks and
    converts them.
    """
    default = field.get_default(call_default_factory=True, validated_data={})
    shown = "" if default is None else f" [default: {default}]"
    option: dict[str, Any] = {
        "default": None,
        "help": f"{field.description}{shown} [env: {_environment_name(name)}]",
    }
    value_type = _value_type(field)
    if get_origin(value_type) is Literal:
        option["type"] = click.Choice(get_args(value_type))
    elif value_type is not bool:
        option["metavar"] = {int: "INTEGER", float: "NUMBER"}.get(value_type, "TEXT")
    return option


def _value_type(field: FieldInfo) -> Any:
    """The type of a setting's value, `X` for `X | None`."""
    annotation = field.annotation
    if get_origin(annotation) in (Union, types.UnionType):
        (annotation,) = (part for part in get_args(annotation) if part is not type(None))
    return annotation


def _environment_name(name: str) -> str:
    return f"{Settings.model_config['env_prefix']}{name}".upper()


def _complaint(error: Any) -> str:
    """One line on a value that the settings refuse. Without the value: it may be a secret."""
    message = error["msg"].removeprefix("Value error, ")
    if not error["loc"]:
        return str(message)
    name = str(error["loc"][0])
    return f"--{name.replace('_', '-')} (or {_environment_name(name)}): {message}"
