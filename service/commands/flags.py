"""Command-line flags generated from the settings, one for each field."""

from __future__ import annotations

import types
from collections.abc import Callable
from tomllib import TOMLDecodeError
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import click
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from index.data_folder import library_folders
from service.settings import EARLIER_DATA_DIR, Settings, settings_file

F = TypeVar("F", bound=Callable[..., Any])
METAVARS = {int: "INTEGER", float: "NUMBER"}
FIRST_PASS = ("model", "model_dir", "adapters", "soft_words", "device", "dtype")
BOTH_PASSES = (
    *FIRST_PASS,
    "first_pass_engine",
    "second_pass_engine",
    "second_pass_url",
)


def settings_flags(*names: str) -> Callable[[F], F]:
    """Decorator: adds a flag for each of these settings, or for all if none is named.

    A flag that is left out reaches the command as None.
    """

    def decorate(command: F) -> F:
        for name in reversed(names or tuple(Settings.model_fields)):
            field = Settings.model_fields[name]
            option = click.option(_flag(name, field), name, **_option(name, field))
            command = option(command)
        return command

    return decorate


def settings_from_flags(flags: dict[str, Any]) -> Settings:
    """Settings from flags, environment and file, the first winning. Raises click.UsageError."""
    values = {name: value for name, value in flags.items() if value is not None}
    try:
        settings = Settings(**values)
    except ValidationError as error:
        lines = [_complaint(part) for part in error.errors()]
        raise click.UsageError("\n".join(lines)) from error
    except (TOMLDecodeError, UnicodeDecodeError) as error:
        raise click.UsageError(f"{settings_file()} is not TOML: {error}") from error
    if "data_dir" in flags and "data_dir" not in settings.model_fields_set:
        _mention_earlier_library(settings)
    return settings


def _mention_earlier_library(settings: Settings) -> None:
    """Says so if the working folder has a library where earlier versions kept it."""
    earlier = EARLIER_DATA_DIR.absolute()
    if library_folders(earlier):
        click.echo(
            f"There is a library in {earlier}, the default of earlier versions; this command uses"
            f" {settings.data_dir}. For the earlier one: --data-dir {EARLIER_DATA_DIR}"
            f" (or {_environment_name('data_dir')}).",
            err=True,
        )


def _flag(name: str, field: FieldInfo) -> str:
    flag = name.replace("_", "-")
    return f"--{flag}/--no-{flag}" if _value_type(field) is bool else f"--{flag}"


def _option(name: str, field: FieldInfo) -> dict[str, Any]:
    """Keyword arguments of click.option. Values stay text: the settings check and convert them."""
    default = field.get_default(call_default_factory=True, validated_data={})
    default_text = "" if default is None else f" [default: {default}]"
    option: dict[str, Any] = {
        "default": None,
        "help": f"{field.description}{default_text} [env: {_environment_name(name)}]",
    }
    value_type = _value_type(field)
    if get_origin(value_type) is Literal:
        option["type"] = click.Choice(get_args(value_type))
    elif value_type is not bool:
        option["metavar"] = METAVARS.get(value_type, "TEXT")
    return option


def _value_type(field: FieldInfo) -> Any:
    """The type of a setting's value, `X` for `X | None`."""
    annotation = field.annotation
    if get_origin(annotation) not in (Union, types.UnionType):
        return annotation
    (value_type,) = (part for part in get_args(annotation) if part is not type(None))
    return value_type


def _environment_name(name: str) -> str:
    return f"{Settings.model_config['env_prefix']}{name}".upper()


def _complaint(error: Any) -> str:
    """One line on a value that the settings reject, without the value: it may be a secret."""
    message = str(error["msg"]).removeprefix("Value error, ")
    if not error["loc"]:
        return message
    name = str(error["loc"][0])
    if name not in Settings.model_fields:
        return f"{settings_file()}: there is no setting {name!r}"
    flag = name.replace("_", "-")
    return f"--{flag} (or {_environment_name(name)}): {message}"
